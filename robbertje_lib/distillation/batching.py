"""Which sequences make a batch, in which order, and which of their tokens are masked.

Everything is a pure function of (seed, epoch, step): a run that resumes, or that is spread over several
processes, sees the very batches of an uninterrupted run in one process. Tokens stay in the memory-mapped
Arrow store; only the lengths and one epoch's order are held in memory.
"""

import hashlib
import math
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from robbertje_lib.experiment.artefacts import open_store
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.models.length_batches import batches_of_tokens
from robbertje_lib.models.packed_attention import Packing, packing_of, sent

POOL_BATCHES = 64  # `tokens`: sequences of about this many batches are sorted by length together
# A row is filled up to a multiple of this: a CPU's products in bfloat16 are compiled once for each length of a row.
ROW_MULTIPLE = 64
BIN_WIDTH = 4  # `sequences`: lengths 3 to 6 share a bin, then 7 to 10, and so on, as in the published code
# What a random stream is for; the number keeps streams of one seed apart.
ORDER, MASK = 0, 1


class TokenStore:
    """Sequences of a `datasets` folder, by row number, and which of them training keeps."""

    def __init__(self, folder: Path, minimum_tokens: int = 0, unknown: int | None = None) -> None:
        """Open `folder`; drop sequences shorter than `minimum_tokens` (specials included), or half unknown words.

        `dropped` counts them by reason. Raises `UserError` if the store is missing or nothing is left.
        """
        if not (folder / "dataset_info.json").is_file():
            raise UserError(f"{folder}: no token store there; run notebook 10_corpus first")
        chunks: list[pa.Array] = open_store(folder).column("input_ids").chunks
        self.chunks = [(c.values.to_numpy(), c.offsets.to_numpy().astype(np.int64)) for c in chunks]
        self.starts = np.cumsum([0, *(len(offsets) - 1 for _, offsets in self.chunks)])
        self.lengths = np.concatenate([np.diff(o) for _, o in self.chunks]).astype(np.int32)
        too_short = self.lengths < minimum_tokens
        half_unknown = np.zeros_like(too_short) if unknown is None else self._half_unknown(unknown) & ~too_short
        self.rows = np.flatnonzero(~(too_short | half_unknown)).astype(np.int32)
        self.dropped = Counter(too_short=int(too_short.sum()), half_unknown=int(half_unknown.sum()))
        if not len(self.rows):
            raise UserError(
                f"{folder}: no sequence of {minimum_tokens} tokens or more; lower minimum_tokens or take more text"
            )

    def tokens(self, row: int) -> NDArray[np.int32]:
        """Token ids of one sequence, a view into the mapped file."""
        chunk = int(np.searchsorted(self.starts, row, side="right")) - 1
        values, offsets = self.chunks[chunk]
        at = row - self.starts[chunk]
        return values[offsets[at] : offsets[at + 1]]

    def row_of_tokens(self, rows: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Token ids of `rows`, one behind the other, in this order (tokens,), and the length of each (rows,)."""
        lengths = self.lengths[rows].astype(np.int64)
        ends = np.cumsum(lengths)
        row_of_tokens = np.empty(int(ends[-1]), dtype=np.int64)
        chunk = np.searchsorted(self.starts, rows, side="right") - 1
        for number in np.unique(chunk):
            values, offsets = self.chunks[number]
            inside = chunk == number
            first = offsets[rows[inside] - self.starts[number]]
            shift = first - (ends - lengths)[inside]  # from the place in the row to that in the chunk
            places = np.flatnonzero(np.repeat(inside, lengths))
            row_of_tokens[places] = values[places + np.repeat(shift, lengths[inside])]
        return row_of_tokens, lengths

    def counts(self, vocabulary: int) -> NDArray[np.int64]:
        """How often each token occurs in the whole store: (vocabulary,)."""
        total = np.zeros(vocabulary, dtype=np.int64)
        for values, offsets in self.chunks:
            total += np.bincount(values[offsets[0] : offsets[-1]], minlength=vocabulary)
        return total

    @property
    def epoch_tokens(self) -> int:
        """Real tokens of one pass over what training keeps."""
        return int(self.lengths[self.rows].sum(dtype=np.int64))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the length of every sequence and of all tokens, however the store is cut in chunks."""
        digest = hashlib.sha256(self.lengths.tobytes())
        for values, offsets in self.chunks:
            digest.update(values[offsets[0] : offsets[-1]].tobytes())
        return digest.hexdigest()

    def _half_unknown(self, unknown: int) -> NDArray[np.bool_]:
        share = [
            np.add.reduceat(values[offsets[0] : offsets[-1]] == unknown, offsets[:-1] - offsets[0], dtype=np.int64)
            for values, offsets in self.chunks
        ]
        return np.concatenate(share) * 2 >= self.lengths


@dataclass(frozen=True)
class Plan:
    """How the sequences of a store become batches, epoch after epoch."""

    store: TokenStore
    batching: Literal["sequences", "tokens"]
    batch_size: int  # sequences, or positions, a batch holds
    seed: int
    order: Literal["random", "document"] = "random"

    def epoch(self, epoch: int) -> list[NDArray[np.int32]]:
        """The batches of an epoch, in order: arrays of row numbers; every row occurs once.

        In `random` order sequences are drawn anew every epoch, and those of like length meet: two stores of the same
        lines in another order differ by nothing but chance. In `document` order batches are stretches of the store,
        the same every epoch.
        """
        if self.order == "document":
            return _stretches(self.store.rows, self.store.lengths, self.batching, self.batch_size)
        generator = np.random.default_rng([self.seed, ORDER, epoch])
        order = generator.permutation(self.store.rows)
        if self.batching == "sequences":
            return _length_groups(order, self.store.lengths[order], self.batch_size)
        return _token_budget(order, self.store.lengths, self.batch_size, generator)


def _stretches(
    rows: NDArray[np.int32], all_lengths: NDArray[np.int32], batching: str, batch_size: int
) -> list[NDArray[np.int32]]:
    """Batches of consecutive rows: of `batch_size` sequences, or of at most so many positions, padding included."""
    if batching == "sequences":
        return np.split(rows, range(batch_size, len(rows), batch_size))
    starts, start, widest = [], 0, 0
    for at, length in enumerate(all_lengths[rows].tolist()):
        widest = max(widest, length)
        if at > start and (at + 1 - start) * widest > batch_size:
            starts.append(at)
            start, widest = at, length
    return np.split(rows, starts)


def _length_groups(order: NDArray[np.int32], lengths: NDArray[np.int32], batch_size: int) -> list[NDArray[np.int32]]:
    """The published code's batches (`GroupedBatchSampler`): a bin that holds `batch_size` sequences leaves.

    What remains in the bins at the end forms batches from the shortest bin to the longest.
    """
    bins = np.digitize(lengths, np.arange(3, max(int(lengths.max()), 4), BIN_WIDTH))
    by_bin = np.argsort(bins, kind="stable")
    bounds = np.flatnonzero(np.diff(bins[by_bin], prepend=-1))
    full: list[tuple[int, NDArray[np.int32]]] = []
    rest: list[NDArray[np.int32]] = []
    for members in np.split(by_bin, bounds[1:]):
        cut = len(members) // batch_size * batch_size
        full += [(int(group[-1]), order[group]) for group in members[:cut].reshape(-1, batch_size)]
        rest.append(order[members[cut:]])
    left = np.concatenate(rest)
    full.sort(key=lambda item: item[0])  # a batch leaves when its last member arrives
    return [rows for _, rows in full] + [left[at : at + batch_size] for at in range(0, len(left), batch_size)]


def _token_budget(
    order: NDArray[np.int32], all_lengths: NDArray[np.int32], budget: int, generator: np.random.Generator
) -> list[NDArray[np.int32]]:
    """Batches of at most `budget` positions, padding included; a longer sequence is a batch of its own."""
    mean = max(1.0, float(all_lengths[order].mean()))
    pool_size = max(1, int(POOL_BATCHES * budget / mean))
    batches: list[NDArray[np.int32]] = []
    for at in range(0, len(order), pool_size):
        pool = order[at : at + pool_size][::-1]
        parts = [pool[rows][::-1] for rows in batches_of_tokens(all_lengths[pool], budget)][::-1]
        batches += [parts[i] for i in generator.permutation(len(parts))]
    return batches


@dataclass(frozen=True)
class Batch:
    """One forward pass: all its sequences behind one another in a row, nothing padded. Positions index that row.

    What depends on values is worked out here, on the host, so that no computation on a device has to wait for one.
    """

    rows: NDArray[np.int32]
    input_ids: Tensor  # (tokens,) int64, masked unless `targets` is empty
    packing: Packing
    masked: Tensor  # (masked,) int64
    targets: Tensor  # (masked,) int64, the tokens that stood there
    unmasked: Tensor  # (tokens - masked,) int64, specials included
    origin: Tensor  # (tokens,) int64: of masked, then unmasked, in which of the joined batches they were
    followed: Tensor  # (tokens - sequences,) int64: all but the last of each sequence
    joined: int  # how many batches this pass is joined from

    @classmethod
    def of(
        cls,
        rows: NDArray[np.int32],
        lengths: NDArray[np.int64],
        input_ids: NDArray[np.int64],
        masked: NDArray[np.int64],
        targets: NDArray[np.int64],
        owner: NDArray[np.int64] | None = None,
    ) -> "Batch":
        """`lengths` (sequences,) of the sequences that make `input_ids`; `owner` (sequences,): the batch of each."""
        visible = np.ones(len(input_ids), dtype=bool)
        visible[masked] = False
        unmasked = np.flatnonzero(visible)
        last = np.cumsum(lengths) - 1
        owner = np.zeros(len(lengths), dtype=np.int64) if owner is None else owner
        origin = np.repeat(owner, lengths)[np.concatenate([masked, unmasked])]
        followed = np.delete(np.arange(len(input_ids)), last)
        return cls(
            rows,
            torch.from_numpy(input_ids),
            packing_of(lengths, multiple=ROW_MULTIPLE),
            torch.from_numpy(masked),
            torch.from_numpy(targets),
            torch.from_numpy(unmasked),
            torch.from_numpy(origin),
            torch.from_numpy(followed),
            int(owner[-1]) + 1,
        )

    @property
    def tokens(self) -> int:
        """All are real, specials included."""
        return len(self.input_ids)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Of each sequence: (sequences,); to be read on the host."""
        return np.diff(self.packing.starts.numpy()).astype(np.int64)[: len(self.rows)]

    def to(self, device: torch.device) -> "Batch":
        """The batch on `device`; from pinned memory, without waiting, if that is a GPU."""
        if device.type == "cpu":
            return self
        moved = {name: sent(value, device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, packing=self.packing.to(device), **moved)


def masked_count(tokens: int, fraction: float) -> int:
    """Positions masked in a batch of `tokens` real tokens: exactly the ceiling, as the published code."""
    return math.ceil(fraction * tokens)


class Masking:
    """Draws the positions to predict and what the model sees there: 80% `<mask>`, 10% kept, 10% a random token."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        fraction: float,
        counts: NDArray[np.int64] | None = None,
        smoothing: float = 0.7,
    ) -> None:
        """With `counts` tokens are drawn with weight max(count, 1)^-smoothing (as in XLM's code), else uniformly."""
        self.fraction, self.vocabulary, self.mask_id = fraction, len(tokenizer), tokenizer.mask_token_id
        self.weights = np.ones(self.vocabulary) if counts is None else np.maximum(counts, 1) ** -smoothing
        self.weights[tokenizer.all_special_ids] = 0

    def apply(
        self, input_ids: NDArray[np.int64], generator: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Mask `input_ids` (tokens,) in place; returns masked positions, ascending, and the tokens that stood there.

        Positions are drawn without replacement in proportion to the weights; special tokens are never drawn.
        """
        weights = self.weights[input_ids]
        candidates = np.flatnonzero(weights)
        wanted = min(masked_count(len(input_ids), self.fraction), len(candidates))
        # The smallest of exponential clocks with rates w: sequential draws without replacement, all at once.
        clocks = generator.exponential(size=len(candidates)) / weights[candidates]
        chosen = np.sort(candidates[np.argpartition(clocks, wanted - 1)[:wanted]]) if wanted else candidates[:0]
        targets = input_ids[chosen]
        fate = generator.choice(3, size=wanted, p=(0.8, 0.1, 0.1))
        input_ids[chosen[fate == 0]] = self.mask_id
        input_ids[chosen[fate == 2]] = generator.integers(self.vocabulary, size=int((fate == 2).sum()))
        return chosen, targets


def make_batch(store: TokenStore, rows: NDArray[np.int32], masking: Masking | None, key: tuple[int, int, int]) -> Batch:
    """Read `rows`, one behind the other, and mask them; `key` = (seed, epoch, step) fixes the draw.

    Without `masking` nothing is masked, and `masked` is empty.
    """
    input_ids, lengths = store.row_of_tokens(rows)
    chosen = targets = np.zeros(0, dtype=np.int64)
    if masking is not None:
        seed, epoch, step = key
        chosen, targets = masking.apply(input_ids, np.random.default_rng([seed, MASK, epoch, step]))
    return Batch.of(rows, lengths, input_ids, chosen, targets)


def pack(batches: list[NDArray[np.int32]], lengths: NDArray[np.int32], budget: int) -> list[list[int]]:
    """Which of `batches` (row numbers) to join in one pass of at most `budget` tokens.

    Those of like width meet, for attention on a grid (`models.packed_attention`) finds fewer blocks in them then.
    """
    widths = [int(lengths[rows].max()) for rows in batches]
    passes: list[list[int]] = []
    tokens = 0
    for index in sorted(range(len(batches)), key=lambda i: (widths[i], i)):
        own = int(lengths[batches[index]].sum())
        tokens += own
        if not passes or tokens > budget:
            passes.append([])
            tokens = own
        passes[-1].append(index)
    return passes


def join(batches: list[Batch]) -> Batch:
    """Several batches as one pass, each token as it was masked in its own; `origin` tells which that was."""
    if len(batches) == 1:
        return batches[0]
    before = np.cumsum([0, *(b.tokens for b in batches[:-1])]).tolist()
    return Batch.of(
        np.concatenate([b.rows for b in batches]),
        np.concatenate([b.lengths for b in batches]),
        np.concatenate([b.input_ids.numpy() for b in batches]),
        np.concatenate([b.masked.numpy() + start for b, start in zip(batches, before, strict=True)]),
        np.concatenate([b.targets.numpy() for b in batches]),
        np.repeat(np.arange(len(batches)), [len(b.rows) for b in batches]),
    )


def masked_one_by_one(
    store: TokenStore, rows: NDArray[np.int32], tokenizer: PreTrainedTokenizerFast, budget: int
) -> list[Batch]:
    """Every row once for each of its tokens, special ones but `<unk>` excluded, with just that token masked."""
    special = list(set(tokenizer.all_special_ids) - {tokenizer.unk_token_id})
    columns = [np.flatnonzero(~np.isin(store.tokens(int(row)), special)) for row in rows]
    copies = [np.full(len(of_row), row, dtype=np.int32) for row, of_row in zip(rows, columns, strict=True)]
    batches = []
    for members in pack(copies, store.lengths, budget):
        of_batch = np.concatenate([copies[i] for i in members])
        input_ids, lengths = store.row_of_tokens(of_batch)
        masked = np.cumsum(lengths) - lengths + np.concatenate([columns[i] for i in members])
        targets = input_ids[masked]
        input_ids[masked] = tokenizer.mask_token_id
        batches.append(Batch.of(of_batch, lengths, input_ids, masked, targets))
    return batches
