"""Which sequences make a batch, in which order, and which of their tokens are masked.

Everything is a pure function of (seed, epoch, step): a run that resumes, or that is spread over several
processes, sees the very batches of an uninterrupted run in one process. Tokens stay in the memory-mapped
Arrow store; only the lengths and one epoch's order are held in memory.
"""

import hashlib
import math
from collections import Counter
from dataclasses import dataclass
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

POOL_BATCHES = 64  # `tokens`: sequences of about this many batches are sorted by length together
PACKED_SHARE = 0.85  # of real tokens that a pass of joined batches keeps
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
        self.chunks = [_views(chunk) for chunk in open_store(folder).data.column("input_ids").chunks]
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


def _views(chunk: pa.Array) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    return chunk.values.to_numpy(), chunk.offsets.to_numpy().astype(np.int64)


@dataclass(frozen=True)
class Plan:
    """How the sequences of a store become batches, epoch after epoch."""

    store: TokenStore
    batching: Literal["sequences", "tokens"]
    batch_size: int  # sequences, or positions, a batch holds
    seed: int

    def epoch(self, epoch: int) -> list[NDArray[np.int32]]:
        """The batches of an epoch, in order: arrays of row numbers; every row occurs once."""
        generator = np.random.default_rng([self.seed, ORDER, epoch])
        order = generator.permutation(self.store.rows)
        if self.batching == "sequences":
            return _length_groups(order, self.store.lengths[order], self.batch_size)
        return _token_budget(order, self.store.lengths, self.batch_size, generator)


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
    tokens: int  # real tokens, specials included

    def to(self, device: torch.device) -> "Batch":
        """The batch on `device`; from pinned memory, without waiting, if that is a GPU."""
        if device.type == "cpu":
            return self
        moved = {
            name: value.pin_memory().to(device, non_blocking=True) if isinstance(value, Tensor) else value
            for name, value in vars(self).items()
        }
        return Batch(**moved)


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


def make_batch(
    store: TokenStore, rows: NDArray[np.int32], masking: Masking | None, key: tuple[int, int, int], pad: int = 1
) -> Batch:
    """Read `rows`, pad them on the right and mask them; `key` = (seed, epoch, step) fixes the draw.

    Without `masking` nothing is masked, and `masked` is empty.
    """
    sequences = [store.tokens(int(row)) for row in rows]
    lengths = np.array([len(s) for s in sequences])
    width = int(lengths.max())
    real = np.arange(width) < lengths[:, None]
    input_ids = np.full(real.shape, pad, dtype=np.int64)
    input_ids[real] = np.concatenate(sequences)
    chosen = targets = np.zeros(0, dtype=np.int64)
    if masking is not None:
        seed, epoch, step = key
        chosen, targets = masking.apply(input_ids, real, np.random.default_rng([seed, MASK, epoch, step]))
    others = real.reshape(-1).copy()
    others[chosen] = False
    tokens = int(lengths.sum())
    return Batch(
        rows=rows,
        input_ids=torch.from_numpy(input_ids),
        attention_mask=None if tokens == real.size else torch.from_numpy(real.astype(np.int64)),
        masked=torch.from_numpy(chosen),
        targets=torch.from_numpy(targets),
        unmasked=torch.from_numpy(np.flatnonzero(others)),
        origin=torch.zeros(tokens, dtype=torch.int64),
        tokens=tokens,
    )


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


def join(batches: list[Batch], pad: int = 1) -> Batch:
    """Several batches as one pass, each token as it was masked in its own; `origin` tells which that was."""
    if len(batches) == 1:
        return batches[0]
    width = max(b.input_ids.shape[1] for b in batches)
    above = np.cumsum([0, *(len(b.input_ids) for b in batches)])
    input_ids = torch.full((int(above[-1]), width), pad, dtype=torch.int64)
    real = torch.zeros_like(input_ids)

    def moved(positions: Tensor, i: int) -> Tensor:
        own = batches[i].input_ids.shape[1]
        return (positions // own + int(above[i])) * width + positions % own

    for i, batch in enumerate(batches):
        at = slice(int(above[i]), int(above[i + 1])), slice(batch.input_ids.shape[1])
        input_ids[at] = batch.input_ids
        real[at] = 1 if batch.attention_mask is None else batch.attention_mask
    groups = [b.masked for b in batches], [b.unmasked for b in batches]
    tokens = sum(b.tokens for b in batches)
    return Batch(
        rows=np.concatenate([b.rows for b in batches]),
        input_ids=input_ids,
        attention_mask=None if tokens == real.numel() else real,
        masked=torch.cat([moved(positions, i) for i, positions in enumerate(groups[0])]),
        targets=torch.cat([b.targets for b in batches]),
        unmasked=torch.cat([moved(positions, i) for i, positions in enumerate(groups[1])]),
        origin=torch.cat([torch.full_like(p, i) for group in groups for i, p in enumerate(group)]),
        tokens=tokens,
    )


def masked_one_by_one(
    store: TokenStore, rows: NDArray[np.int32], tokenizer: PreTrainedTokenizerFast, budget: int
) -> list[Batch]:
    """Every row once for each of its tokens, special ones but `<unk>` excluded, with just that token masked."""
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    lines = []
    for row in rows.tolist():
        tokens = torch.from_numpy(store.tokens(row).astype(np.int64))
        columns = torch.from_numpy(np.flatnonzero(~np.isin(tokens, list(special))))
        copies = tokens.repeat(len(columns), 1)
        copies[torch.arange(len(columns)), columns] = tokenizer.mask_token_id
        masked = torch.arange(len(columns)) * len(tokens) + columns
        lines.append(
            Batch(
                rows=np.full(len(columns), row, dtype=np.int32),
                input_ids=copies,
                attention_mask=None,
                masked=masked,
                targets=tokens[columns],
                unmasked=torch.from_numpy(np.setdiff1d(np.arange(copies.numel()), masked)),
                origin=torch.zeros(copies.numel(), dtype=torch.int64),
                tokens=copies.numel(),
            )
        )
    return [join([lines[i] for i in members]) for members in pack([b.rows for b in lines], store.lengths, budget)]
