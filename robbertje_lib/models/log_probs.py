"""Masked copies of many lines, scored in batches of like length with the head at the masked position only.

A query asks for the probability of one token: a sequence, the position of the token, and where the masked span
that starts there ends. Salazar et al. mask the token alone; word-level left-to-right masks to the end of its word.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from robbertje_lib.experiment import heartbeat
from robbertje_lib.models.cpu_kernels import packed_weights
from robbertje_lib.models.length_batches import Integers, batches_of_tokens
from robbertje_lib.models.masked_lm import MaskedLM, ScoringPrecision

TOKENS_PER_BATCH = 2048  # what a CPU's caches like; a GPU wants tens of thousands
Floats = NDArray[np.floating]
Report = Callable[[str], None]
SECONDS_BETWEEN_REPORTS = 30.0


@dataclass(frozen=True)
class Queries:
    """Arrays of equal length, one entry a prediction."""

    sequence: Integers  # index into the sequences
    position: Integers  # of the token asked for, specials counted
    mask_end: Integers  # positions from `position` up to here are masked; equal to `position`: nothing is


def token_log_probs(
    model: MaskedLM,
    sequences: Sequence[Integers],
    queries: Queries,
    tokens_per_batch: int = TOKENS_PER_BATCH,
    precision: ScoringPrecision = "float32",
    progress: Report | None = None,
) -> Floats:
    """Log-probability of the token that stands at each query's position: (n_queries,) float64, natural log."""
    result = np.empty(len(queries.sequence))
    for batch, logits, targets in predictions(model, sequences, queries, tokens_per_batch, precision, progress):
        result[batch] = log_probs_of(logits, targets)
    return result


def log_probs_of(logits: torch.Tensor, targets: torch.Tensor) -> Floats:
    """Log-probability of one token a row: logits (n, vocabulary) float32, targets (n,) to (n,) float64."""
    chosen = logits.gather(1, targets[:, None]).squeeze(1) - logits.logsumexp(1)
    return chosen.double().cpu().numpy()


def vocabulary_log_probs(
    model: MaskedLM, sequences: Sequence[Integers], positions: Integers
) -> Iterator[tuple[Integers, Floats]]:
    """The whole distribution at one position of each sequence, masked beforehand by the caller.

    Yields (indices of the sequences, log-probabilities (n, vocabulary) float32), natural log, batch by batch.
    """
    queries = Queries(np.arange(len(sequences)), positions, positions)
    for batch, logits, _ in predictions(model, sequences, queries):
        # Rows beyond the tokenizer's vocabulary are padding of the embedding matrix, but part of the softmax.
        yield batch, logits.log_softmax(1).cpu().numpy()


def predictions(
    model: MaskedLM,
    sequences: Sequence[Integers],
    queries: Queries,
    tokens_per_batch: int = TOKENS_PER_BATCH,
    precision: ScoringPrecision = "float32",
    progress: Report | None = None,
) -> Iterator[tuple[Integers, torch.Tensor, torch.Tensor]]:
    """Yield (query indices, logits (n, vocabulary) float32, tokens asked for (n,) int64), batch by batch.

    The batches follow from the lengths of the sequences alone, whatever the model.
    """
    if not len(queries.sequence):
        return
    sequence_lengths = np.fromiter((len(s) for s in sequences), np.int64, len(sequences))
    starts = np.concatenate([[0], np.cumsum(sequence_lengths)[:-1]])
    flat = np.concatenate(sequences).astype(np.int64)
    lengths = sequence_lengths[queries.sequence]
    report = _reporter(int(lengths.sum()), progress)
    with packed_weights(model.model) if precision == "float32" else nullcontext():
        for batch in batches_of_tokens(lengths, tokens_per_batch):
            width = np.arange(int(lengths[batch[0]]))
            real = width < lengths[batch][:, None]
            ids = flat[np.where(real, starts[queries.sequence[batch]][:, None] + width, 0)]
            ids[~real] = model.tokenizer.pad_token_id
            first = queries.position[batch]
            rows = np.arange(len(batch))
            targets = ids[rows, first]
            ids[(width >= first[:, None]) & (width < queries.mask_end[batch][:, None])] = model.tokenizer.mask_token_id
            ids_, rows_, columns, lengths_ = (torch.from_numpy(array) for array in (ids, rows, first, lengths[batch]))
            logits = model.logits(ids_, rows_, columns, lengths_, precision)
            yield batch, logits, torch.from_numpy(targets).to(model.device)
            report(int(lengths[batch].sum()))


def _reporter(total: int, progress: Report | None) -> Callable[[int], None]:
    """Call the result with each batch's positions: says now and then how far it is, and how much time is left."""
    start = last = time.monotonic()
    done = 0

    def report(positions: int) -> None:
        nonlocal done, last
        done += positions
        now = time.monotonic()
        if progress is not None and now - last >= SECONDS_BETWEEN_REPORTS:
            last, rate = now, done / (now - start)
            heartbeat.tell(done / total)
            progress(f"{done / total:.0%} of {total:,} positions, {rate:,.0f}/s, {(total - done) / rate:,.0f} s left")

    return report
