"""Batches hold every sequence once, depend on (seed, epoch, step) alone, and are masked as published."""

import itertools
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import concatenate_datasets, load_from_disk
from transformers import PreTrainedTokenizerFast

from robbertje_lib.corpus.tokenization import train_tokenizer
from robbertje_lib.distillation.batching import (
    BIN_WIDTH,
    Masking,
    Plan,
    TokenStore,
    join,
    make_batch,
    masked_one_by_one,
    pack,
)
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.profile import Tokenizer
from tests.support.tiny_run import text_lines, write_store

LINES = text_lines(700, seed=5)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(LINES, Tokenizer(kind="word", vocabulary=100, maximum_length=64))


@pytest.fixture(scope="module")
def folder(tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stores") / "store"
    write_store(folder, LINES, tokenizer)
    return folder


@pytest.fixture(scope="module")
def store(folder: Path) -> TokenStore:
    return TokenStore(folder, minimum_tokens=4)


def test_a_store_gives_back_its_tokens_and_counts_what_it_drops(
    folder: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    store = TokenStore(folder, minimum_tokens=12)
    assert store.lengths.sum() == sum(load_from_disk(str(folder))["n_tokens"])
    assert store.dropped["too_short"] == int((store.lengths < 12).sum()) == len(store.lengths) - len(store.rows)
    for row in (0, 5, len(store.lengths) - 1):
        tokens = store.tokens(row)
        assert len(tokens) == store.lengths[row] and tokens[0] == 0 and tokens[-1] == 2
    counts = store.counts(len(tokenizer))
    assert counts.sum() == store.lengths.sum() and counts[0] == counts[2] == len(store.lengths)


def test_half_unknown_sequences_are_dropped(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    write_store(
        tmp_path / "store",
        ["een spookwoord nevelwoord schimwoord", "een keuken nevelwoord hij", "schimwoord"],
        tokenizer,
    )
    store = TokenStore(tmp_path / "store", minimum_tokens=4, unknown=tokenizer.unk_token_id)
    assert store.rows.tolist() == [1]
    assert store.dropped == Counter(too_short=1, half_unknown=1)


def test_missing_and_empty_stores_say_what_to_do(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run notebook 10_corpus first"):
        TokenStore(tmp_path)
    with pytest.raises(UserError, match="lower minimum_tokens"):
        TokenStore(folder, minimum_tokens=1000)


def test_the_fingerprint_follows_the_tokens(folder: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    changed = [LINES[0].replace(" een ", " de ", 1), *LINES[1:]]
    assert changed != LINES
    write_store(tmp_path / "store", changed, tokenizer)
    assert TokenStore(tmp_path / "store").fingerprint != TokenStore(folder).fingerprint
    assert TokenStore(folder, minimum_tokens=9).fingerprint == TokenStore(folder).fingerprint


def test_a_store_in_chunks_is_the_same_store(folder: Path, tmp_path: Path) -> None:
    whole = load_from_disk(str(folder))
    parts = [whole.select(range(300)), whole.select(range(300, len(whole)))]
    concatenate_datasets(parts).save_to_disk(str(tmp_path / "store"), num_shards=2)
    chunked, store = TokenStore(tmp_path / "store", unknown=3), TokenStore(folder, unknown=3)
    assert len(chunked.chunks) > len(store.chunks)
    assert chunked.fingerprint == store.fingerprint and np.array_equal(chunked.rows, store.rows)
    assert all(np.array_equal(chunked.tokens(row), store.tokens(row)) for row in (0, 299, 300, len(whole) - 1))


@pytest.mark.parametrize(("batching", "size"), [("sequences", 5), ("tokens", 512)])
def test_an_epoch_holds_every_sequence_once_in_an_order_of_its_own(store: TokenStore, batching: str, size: int) -> None:
    plan = Plan(store, batching, size, seed=1)  # type: ignore[arg-type]
    first, again, second = plan.epoch(0), plan.epoch(0), plan.epoch(1)
    assert sorted(np.concatenate(first)) == store.rows.tolist()
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(np.concatenate(first), np.concatenate(second))
    other = Plan(store, batching, size, seed=2).epoch(0)  # type: ignore[arg-type]
    assert not np.array_equal(np.concatenate(first), np.concatenate(other))


@pytest.mark.parametrize(("batching", "size"), [("sequences", 5), ("tokens", 512)])
def test_in_document_order_neighbours_stay_together_epoch_after_epoch(
    store: TokenStore, batching: str, size: int
) -> None:
    plan = Plan(store, batching, size, seed=1, order="document")  # type: ignore[arg-type]
    batches = plan.epoch(0)
    assert np.concatenate(batches).tolist() == store.rows.tolist()
    for later in (plan.epoch(1), Plan(store, batching, size, seed=2, order="document").epoch(0)):  # type: ignore[arg-type]
        assert all(np.array_equal(a, b) for a, b in zip(batches, later, strict=True))
    if batching == "sequences":
        assert {len(rows) for rows in batches[:-1]} == {5}
    else:
        positions = [len(rows) * int(store.lengths[rows].max()) for rows in batches]
        assert max(positions) <= 512
        for rows, after in itertools.pairwise(batches):  # the next sequence would not have fitted
            widest = int(store.lengths[[*rows, after[0]]].max())
            assert (len(rows) + 1) * widest > 512
        lone = Plan(store, "tokens", 10, seed=1, order="document").epoch(0)
        assert all(len(rows) == 1 for rows in lone if store.lengths[rows].max() > 10)


def test_an_epochs_tokens_are_those_that_are_kept(folder: Path) -> None:
    store = TokenStore(folder, minimum_tokens=12)
    assert store.epoch_tokens == sum(n for n in load_from_disk(str(folder))["n_tokens"] if n >= 12)


def test_token_batches_keep_their_budget_and_waste_little(store: TokenStore) -> None:
    batches = Plan(store, "tokens", 512, seed=1).epoch(0)
    positions = [len(rows) * int(store.lengths[rows].max()) for rows in batches]
    assert max(positions) <= 512
    assert store.lengths[store.rows].sum() / sum(positions) > 0.95
    lone = Plan(store, "tokens", 10, seed=1).epoch(0)
    assert all(len(rows) == 1 for rows in lone if store.lengths[rows].max() > 10)


def test_sequence_batches_are_length_groups(store: TokenStore) -> None:
    batches = Plan(store, "sequences", 5, seed=1).epoch(0)
    assert len(batches) == math.ceil(len(store.rows) / 5)
    bins = [set((store.lengths[rows] - 3) // BIN_WIDTH) for rows in batches]
    assert sum(len(b) == 1 for b in bins) >= len(store.rows) // 5 - 16  # all but the remainders of the 16 bins


def test_masking_counts_fates_and_spares_specials(store: TokenStore, tokenizer: PreTrainedTokenizerFast) -> None:
    masking = Masking(tokenizer, 0.15, store.counts(len(tokenizer)))
    fates: Counter[str] = Counter()
    for step, rows in enumerate(Plan(store, "sequences", 20, seed=1).epoch(0)):
        plain, batch = make_batch(store, rows, None, (1, 0, step)), make_batch(store, rows, masking, (1, 0, step))
        assert len(batch.masked) == math.ceil(0.15 * batch.tokens)
        seen, true = batch.input_ids, plain.input_ids
        assert torch.equal(true[batch.masked], batch.targets)
        assert not set(batch.targets.tolist()) & set(tokenizer.all_special_ids)
        untouched = torch.ones(len(true), dtype=torch.bool)
        untouched[batch.masked] = False
        assert torch.equal(seen[untouched], true[untouched])
        assert sorted([*batch.masked.tolist(), *batch.unmasked.tolist()]) == plain.unmasked.tolist()
        here = seen[batch.masked]
        fates["mask"] += int((here == tokenizer.mask_token_id).sum())
        fates["keep"] += int((here == batch.targets).sum())
        fates["all"] += len(here)
    assert fates["mask"] / fates["all"] == pytest.approx(0.8, abs=0.03)
    assert fates["keep"] / fates["all"] == pytest.approx(0.1, abs=0.03)


def test_smoothed_masking_draws_as_torch_multinomial_does(tokenizer: PreTrainedTokenizerFast) -> None:
    """First-order inclusion probabilities agree with sequential draws by `torch.multinomial`."""
    counts = np.full(len(tokenizer), 1)
    ids = np.arange(5, 15, dtype=np.int64)
    counts[5:15] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
    masking = Masking(tokenizer, 0.3, counts, smoothing=0.7)
    generator, draws = np.random.default_rng(0), 20_000
    ours = np.zeros(10)
    for _ in range(draws):
        chosen, _ = masking.apply(ids.copy(), generator)
        ours[chosen] += 1
    weights = torch.from_numpy(counts[5:15].astype(float) ** -0.7).expand(draws, -1)
    theirs = torch.multinomial(weights, 3, generator=torch.Generator().manual_seed(0)).flatten().bincount(minlength=10)
    assert np.abs(ours - theirs.numpy()).max() / draws < 4 * math.sqrt(2 * 0.25 / draws)


def test_a_batch_is_a_function_of_its_key(store: TokenStore, tokenizer: PreTrainedTokenizerFast) -> None:
    masking, rows = Masking(tokenizer, 0.15), store.rows[:30]
    first, again = (make_batch(store, rows, masking, (1, 0, 7)) for _ in range(2))
    assert torch.equal(first.input_ids, again.input_ids)
    for key in ((2, 0, 7), (1, 1, 7), (1, 0, 8)):
        assert not torch.equal(first.masked, make_batch(store, rows, masking, key).masked)


def test_a_row_holds_the_tokens_of_its_sequences_however_the_store_is_cut(
    folder: Path, store: TokenStore, tmp_path: Path
) -> None:
    """One read of many sequences gives what reading one at a time does, also from several mapped files."""
    whole = load_from_disk(str(folder))
    parts = [whole.select(range(300)), whole.select(range(300, len(whole)))]
    concatenate_datasets(parts).save_to_disk(str(tmp_path / "store"), num_shards=2)
    chunked = TokenStore(tmp_path / "store", minimum_tokens=4)
    assert len(chunked.chunks) > len(store.chunks)
    rows = np.random.default_rng(0).permutation(store.rows)[:50]
    expected = np.concatenate([store.tokens(int(row)) for row in rows])
    for one in (store, chunked):
        row, lengths = one.row_of_tokens(rows)
        assert np.array_equal(row, expected) and row.dtype == np.int64
        assert np.array_equal(lengths, store.lengths[rows])


def test_joined_batches_keep_tokens_masks_and_origin(store: TokenStore, tokenizer: PreTrainedTokenizerFast) -> None:
    masking = Masking(tokenizer, 0.15)
    groups = np.array_split(store.rows[:23], 4)
    parts = [make_batch(store, rows, masking, (1, 0, i)) for i, rows in enumerate(groups)]
    joined = join(parts)
    assert join(parts[:1]) is parts[0] and (parts[0].joined, joined.joined) == (1, 4)
    assert joined.rows.tolist() == store.rows[:23].tolist()
    assert torch.equal(joined.input_ids, torch.cat([b.input_ids for b in parts]))
    masked = len(joined.masked)
    for i, part in enumerate(parts):
        at = joined.masked[joined.origin[:masked] == i]
        assert torch.equal(joined.input_ids[at], part.input_ids[part.masked])
        assert torch.equal(joined.targets[joined.origin[:masked] == i], part.targets)
        unmasked = joined.unmasked[joined.origin[masked:] == i]
        assert torch.equal(joined.input_ids[unmasked], part.input_ids[part.unmasked])
    everywhere = torch.cat([joined.masked, joined.unmasked]).sort().values
    assert torch.equal(everywhere, torch.arange(joined.tokens))


def test_all_but_the_last_token_of_each_sequence_is_followed(store: TokenStore) -> None:
    batch = join([make_batch(store, rows, None, (1, 0, 0)) for rows in (store.rows[:5], store.rows[5:7])])
    others = np.setdiff1d(np.arange(batch.tokens), batch.followed.numpy())
    assert np.array_equal(others, np.cumsum(store.lengths[batch.rows]) - 1)
    assert torch.equal(batch.unmasked, torch.arange(batch.tokens))


def test_packs_hold_every_batch_once_within_the_budget(store: TokenStore) -> None:
    batches = Plan(store, "sequences", 5, seed=1).epoch(0)
    passes = pack(batches, store.lengths, 1024)
    assert sorted(i for members in passes for i in members) == list(range(len(batches)))
    tokens = [sum(int(store.lengths[batches[i]].sum()) for i in members) for members in passes]
    assert max(tokens) <= 1024
    for here, following in zip(tokens, passes[1:], strict=False):  # the next batch would not have fitted
        assert here + int(store.lengths[batches[following[0]]].sum()) > 1024
    widths = [int(store.lengths[batches[i]].max()) for members in passes for i in members]
    assert widths == sorted(widths)
    assert [len(members) for members in pack(batches, store.lengths, 1)] == [1] * len(batches)


def test_each_token_is_masked_once_by_itself(store: TokenStore, tokenizer: PreTrainedTokenizerFast) -> None:
    rows = store.rows[:7]
    batches = masked_one_by_one(store, rows, tokenizer, 400)
    assert len(batches) > 1
    targets = Counter(int(t) for b in batches for t in b.targets)
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    assert targets == Counter(t for row in rows for t in store.tokens(int(row)).tolist() if t not in special)
    for batch in batches:
        hidden = (batch.input_ids == tokenizer.mask_token_id).nonzero().squeeze(1)
        assert torch.equal(hidden, batch.masked) and len(hidden) == len(batch.rows)
        ends = np.cumsum(batch.lengths)
        assert ((hidden.numpy() < ends) & (hidden.numpy() >= ends - batch.lengths)).all()  # one a sequence
