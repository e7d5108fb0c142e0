"""Which sequences make a batch, in which order, and which of their tokens are masked.

Everything is a pure function of (seed, epoch, step): a run that resumes, or that is spread over several
processes, sees the very batches of an uninterrupted run in one process. Tokens stay in the memory-mapped
Arrow store; only the lengths and one epoch's order are held in memory.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

from robbertje_lib.experiment.artefacts import open_store
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.models.length_batches import batches_of_tokens

POOL_BATCHES = 64  # `tokens`: sequences of about this many batches are sorted by length together
PACKED_SHARE = 0.85  # of real tokens that a pass of joined batches keeps
BIN_WIDTH = 4  # `sequences`: lengths 3 to 6 share a bin, then 7 to 10, and so on, as in the published code
PAD = 1  # id of `<pad>`, RoBERTa's
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
    """One forward pass. Positions index the flattened (sequences x length) grid."""

    rows: NDArray[np.int32]
    input_ids: Tensor  # (sequences, length) int64, masked unless `targets` is None
    attention_mask: Tensor | None  # (sequences, length) int64; None where nothing is padded
    masked: Tensor  # (masked,) int64
    targets: Tensor  # (masked,) int64, the tokens that stood there
    unmasked: Tensor  # (real tokens - masked,) int64, specials included
    origin: Tensor  # (real tokens,) int64: of masked, then unmasked, in which of the joined batches they were

    @classmethod
    def of(cls, rows: NDArray[np.int32], input_ids: Tensor, real: Tensor, masked: Tensor, targets: Tensor) -> "Batch":
        """One batch, not joined; `real` (sequences, length) says where its grid is no padding."""
        unmasked = real.flatten().index_fill(0, masked, False).nonzero().squeeze(1)
        origin = torch.zeros(len(masked) + len(unmasked), dtype=torch.int64)
        attention_mask = None if len(origin) == real.numel() else real.long()
        return cls(rows, input_ids, attention_mask, masked, targets, unmasked, origin)

    @property
    def tokens(self) -> int:
        """Real tokens, specials included."""
        return len(self.origin)

    def to(self, device: torch.device) -> "Batch":
        """The batch on `device`; from pinned memory, without waiting, if that is a GPU."""
        if device.type == "cpu":
            return self
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **{name: t.pin_memory().to(device, non_blocking=True) for name, t in tensors.items()})


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
        self, input_ids: NDArray[np.int64], real: NDArray[np.bool_], generator: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Mask `input_ids` in place; returns the masked flat positions, ascending, and the tokens that stood there.

        Positions are drawn without replacement in proportion to the weights; special tokens are never drawn.
        """
        flat = input_ids.reshape(-1)
        weights = np.where(real.reshape(-1), self.weights[flat], 0)
        candidates = np.flatnonzero(weights)
        wanted = min(masked_count(int(real.sum()), self.fraction), len(candidates))
        # The smallest of exponential clocks with rates w: sequential draws without replacement, all at once.
        clocks = generator.exponential(size=len(candidates)) / weights[candidates]
        chosen = np.sort(candidates[np.argpartition(clocks, wanted - 1)[:wanted]]) if wanted else candidates[:0]
        targets = flat[chosen].copy()
        fate = generator.choice(3, size=wanted, p=(0.8, 0.1, 0.1))
        flat[chosen[fate == 0]] = self.mask_id
        flat[chosen[fate == 2]] = generator.integers(self.vocabulary, size=int((fate == 2).sum()))
        return chosen, targets


def make_batch(store: TokenStore, rows: NDArray[np.int32], masking: Masking | None, key: tuple[int, int, int]) -> Batch:
    """Read `rows`, pad them on the right and mask them; `key` = (seed, epoch, step) fixes the draw.

    Without `masking` nothing is masked, and `masked` is empty.
    """
    input_ids, real = _padded(store, rows)
    chosen = targets = np.zeros(0, dtype=np.int64)
    if masking is not None:
        seed, epoch, step = key
        chosen, targets = masking.apply(input_ids, real, np.random.default_rng([seed, MASK, epoch, step]))
    return Batch.of(rows, *map(torch.from_numpy, (input_ids, real, chosen, targets)))


def _padded(store: TokenStore, rows: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Token ids of `rows`, padded on the right, and where they are real: (sequences, length) both."""
    sequences = [store.tokens(int(row)) for row in rows]
    lengths = np.array([len(s) for s in sequences])
    real = np.arange(int(lengths.max())) < lengths[:, None]
    input_ids = np.full(real.shape, PAD, dtype=np.int64)
    input_ids[real] = np.concatenate(sequences)
    return input_ids, real


def pack(batches: list[NDArray[np.int32]], lengths: NDArray[np.int32], budget: int) -> list[list[int]]:
    """Which of `batches` (row numbers) to join in one pass of at most `budget` positions; those of like width meet.

    A batch that would bring the share of real tokens below PACKED_SHARE starts a pass of its own.
    """
    widths = [int(lengths[rows].max()) for rows in batches]
    passes: list[list[int]] = []
    sequences = tokens = 0
    for index in sorted(range(len(batches)), key=lambda i: (widths[i], i)):
        sequences += len(batches[index])
        tokens += int(lengths[batches[index]].sum())
        positions = sequences * widths[index]
        if not passes or positions > budget or tokens < PACKED_SHARE * positions:
            passes.append([])
            sequences, tokens = len(batches[index]), int(lengths[batches[index]].sum())
        passes[-1].append(index)
    return passes


def join(batches: list[Batch]) -> Batch:
    """Several batches as one pass, each token as it was masked in its own; `origin` tells which that was."""
    if len(batches) == 1:
        return batches[0]
    heights, widths = zip(*(b.input_ids.shape for b in batches), strict=True)
    width, above = max(widths), np.cumsum([0, *heights[:-1]]).tolist()

    def widened(grids: Iterable[Tensor], value: int) -> Tensor:
        return torch.cat([functional.pad(g, (0, width - g.shape[1]), value=value) for g in grids])

    real = (torch.ones_like(b.input_ids) if b.attention_mask is None else b.attention_mask for b in batches)
    masked = [(b.masked // w + top) * width + b.masked % w for b, w, top in zip(batches, widths, above, strict=True)]
    joined = Batch.of(
        np.concatenate([b.rows for b in batches]),
        widened((b.input_ids for b in batches), PAD),
        widened(real, 0).bool(),
        torch.cat(masked),
        torch.cat([b.targets for b in batches]),
    )
    owner = torch.arange(len(batches)).repeat_interleave(torch.tensor(heights))
    return replace(joined, origin=owner[torch.cat([joined.masked, joined.unmasked]) // width])


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
        input_ids, real = _padded(store, of_batch)
        at = np.arange(len(real)), np.concatenate([columns[i] for i in members])
        targets, masked = input_ids[at], np.ravel_multi_index(at, real.shape)
        input_ids[at] = tokenizer.mask_token_id
        batches.append(Batch.of(of_batch, *map(torch.from_numpy, (input_ids, real, masked, targets))))
    return batches
