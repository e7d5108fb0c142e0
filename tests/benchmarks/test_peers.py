import pytest
import torch

from tests.benchmarks import peers
from tests.benchmarks.bench_distillation import RECIPE, Sequences, Setting, as_published
from tests.support.published_batch import NOT_PREDICTED, Padded


@pytest.fixture(scope="module")
def batches() -> list[Padded]:
    store = Sequences(10, 2000)
    return [as_published(batch, store.lengths) for batch in store.batches("sequences", 5, 2000)]


def test_padded_batches_hold_every_token_and_mask_of_the_engines() -> None:
    store = Sequences(10, 2000)
    for batch in store.batches("sequences", 5, 2000):
        made = as_published(batch, store.lengths)
        assert made.attention_mask.sum(1).tolist() == store.lengths[batch.rows].tolist()
        assert int((made.labels != NOT_PREDICTED).sum()) == len(batch.targets)
        for row, ids, real, labels in zip(batch.rows, *made, strict=True):
            length = int(real.sum())
            assert real[:length].all() and (ids[length:] == 1).all() and (labels[length:] == NOT_PREDICTED).all()
            original = torch.from_numpy(store.tokens(int(row))).long()
            kept = labels[:length] == NOT_PREDICTED
            assert torch.equal(ids[:length][kept], original[kept])
            assert torch.equal(labels[:length][~kept], original[~kept])


def gradient(recipe_of_peer: object, batch: Padded) -> torch.Tensor:
    setting = Setting.build("demo", "cpu")
    if recipe_of_peer is None:
        loss = setting.plain_loss(batch).loss
    else:
        own = peers.distiller(setting.teacher, setting.student, recipe_of_peer, 1, "cpu")  # type: ignore[arg-type]
        loss = own.train_on_batch(*peers.peer_batches([batch]), {"output_hidden_states": True})[0]
    loss.backward()
    return torch.cat([p.grad.flatten() for p in setting.student.parameters() if p.grad is not None])


@pytest.mark.skipif(peers.name() is None, reason=f"TextBrewer is {peers.MISSING}")
def test_textbrewer_has_the_gradient_of_the_plain_step(batches: list[Padded]) -> None:
    plain = gradient(None, batches[0])
    assert (gradient(RECIPE, batches[0]) - plain).norm() <= 1e-5 * plain.norm()
    for weight in ("weight_kl", "weight_mlm", "weight_cosine"):  # each of the three is in it
        changed = RECIPE.model_copy(update={weight: 1.01 * getattr(RECIPE, weight)})
        assert (gradient(changed, batches[0]) - plain).norm() > 1e-4 * plain.norm(), weight


@pytest.mark.skipif(peers.name() is None, reason=f"TextBrewer is {peers.MISSING}")
def test_textbrewers_loop_makes_one_update_of_all_batches(batches: list[Padded]) -> None:
    ours, theirs = Setting.build("demo", "cpu"), Setting.build("demo", "cpu")
    for batch in batches:
        (ours.plain_loss(batch).loss / len(batches)).backward()
    ours.step()
    own = peers.distiller(theirs.teacher, theirs.student, RECIPE, len(batches), "cpu")
    peers.update(own, theirs.optimizer, batches, RECIPE.gradient_clip)
    for p, q in zip(ours.student.parameters(), theirs.student.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
