"""The teacher learns in two phases, resumes, and depends on its own text alone."""

import shutil
from pathlib import Path

import pytest
import torch
from datasets import load_from_disk
from torch.nn import functional
from transformers import AutoTokenizer

from robbertje_lib.distillation.batching import Masking, TokenStore, join, make_batch
from robbertje_lib.distillation.job import UpdateCounts
from robbertje_lib.distillation.teacher import LanguageModelling, train_teacher
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.profile import TeacherTraining
from robbertje_lib.experiment.results.training import TeacherResult
from robbertje_lib.experiment.run import Run
from robbertje_lib.models.shapes import build_teacher, ready_for
from tests.support.interruption import interrupted_after, weights
from tests.support.no_waiting import NoWaiting
from tests.support.padded import padded
from tests.support.tiny_run import tiny_run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return tiny_run(tmp_path / "output")


def test_the_teacher_learns_in_two_phases_and_resumes(run: Run) -> None:
    run.paths.model("teacher").rename(run.paths.model("old"))
    whole = train_teacher(run)
    expected = weights(run, "teacher")
    assert [p.phase for p in whole.curve] == sorted(p.phase for p in whole.curve)
    assert {p.phase for p in whole.curve} == {"causal", "masked"}
    assert whole.held_out_curve[0].tokens >= 4000  # of 8000: masked phase only
    assert whole.held_out_curve[-1].loss < whole.curve[0].loss
    assert TeacherResult.read(run) == whole
    with interrupted_after(11):
        train_teacher(run, checkpoint_seconds=0.0)
    train_teacher(run)
    assert weights(run, "teacher") == expected


@pytest.mark.parametrize("phase", ["causal", "masked"])
def test_a_row_teaches_what_a_padded_grid_does(run: Run, phase: str) -> None:
    """Loss and gradients of cross-entropy over the logits of a plain, padded model; and no pass waits for a device."""
    assert isinstance(run.profile.teacher, TeacherTraining)
    tokenizer = AutoTokenizer.from_pretrained(run.paths.tokenizer)
    model = build_teacher(run.profile.teacher.model_copy(update={"dropout": 0.0}), tokenizer, seed=3).train()
    for parameter in model.parameters():  # opinions, in every layer
        parameter.data.mul_(5 if parameter.ndim == 2 else 1)
    store = TokenStore(run.paths.teacher_text, minimum_tokens=4)
    masking = Masking(tokenizer, 0.15) if phase == "masked" else None
    batch = join([make_batch(store, rows, masking, (1, 0, 0)) for rows in (store.rows[:9], store.rows[9:15])])
    ids, real, labels = padded(batch)
    if phase == "causal":
        labels = torch.where(real.bool(), ids, -100).roll(-1, 1)
        labels[:, -1] = -100
    wanted_count = int((labels >= 0).sum())
    assert not real.all() and wanted_count == (
        batch.tokens - len(batch.rows) if phase == "causal" else len(batch.masked)
    )
    width = ids.shape[1]
    visible = real.bool()[:, None, None].expand(-1, 1, width, -1)
    logits = model(ids, attention_mask=visible.tril() if phase == "causal" else visible).logits
    expected = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
    wanted = torch.autograd.grad(expected, list(model.parameters()))

    counts = UpdateCounts(*torch.tensor([[batch.tokens], [len(batch.masked)], [len(batch.rows)]]).expand(-1, 2))
    with NoWaiting():
        loss = LanguageModelling(causal_share=0.5)(ready_for(model, torch.device("cpu")), batch, counts, phase)["loss"]
        got = torch.autograd.grad(loss, list(model.parameters()))
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    for (name, _), gradient, reference in zip(model.named_parameters(), got, wanted, strict=True):
        if not name.endswith("key.bias"):  # the softmax does not feel it
            assert (gradient - reference).norm() <= 1e-5 * reference.norm(), name


def test_the_arms_do_not_reach_the_teacher(run: Run) -> None:
    """Without their stores, with another merge probability, and with its own text cut in other chunks, it goes on."""
    train_teacher(run)
    expected = weights(run, "teacher")
    with interrupted_after(11):
        train_teacher(run, checkpoint_seconds=0.0)
    for pair in run.profile.arms:
        shutil.rmtree(run.paths.corpus(*pair))
    store = run.paths.teacher_text
    load_from_disk(str(store)).save_to_disk(str(store.with_name("chunked")), num_shards=3)
    shutil.rmtree(store)
    store.with_name("chunked").rename(store)
    corpus = run.profile.corpus.model_copy(update={"merge_probability": 0.9})
    train_teacher(Run(run.profile.model_copy(update={"corpus": corpus}), run.paths))
    assert weights(run, "teacher") == expected


def test_another_text_is_another_teacher(run: Run) -> None:
    with interrupted_after(2):
        train_teacher(run, checkpoint_seconds=0.0)
    other = load_from_disk(str(run.paths.held_out))
    shutil.rmtree(run.paths.teacher_text)
    other.save_to_disk(str(run.paths.teacher_text))
    with pytest.raises(UserError, match="was made with another text; delete"):
        train_teacher(run)


def test_a_run_without_tokenizer_says_what_to_do(run: Run) -> None:
    shutil.rmtree(run.paths.tokenizer)
    with pytest.raises(UserError, match="no tokenizer in .*; run notebook 10_corpus first"):
        train_teacher(run)
