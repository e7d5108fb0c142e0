"""Masked copies of many lines, scored in batches of like length with the head at the masked position only.

A query asks for the probability of one token: a sequence, the position of the token, and where the masked span
that starts there ends. Salazar et al. mask the token alone; word-level left-to-right masks to the end of its word.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from robbertje_lib.experiment import heartbeat
from robbertje_lib.models.cpu_kernels import fastest_kernels
from robbertje_lib.models.length_batches import Integers, batches_of_tokens
from robbertje_lib.models.masked_lm import MaskedLM, ScoringPrecision
from robbertje_lib.models.packed_attention import sent

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
    batches = predictions(model, sequences, queries, tokens_per_batch, precision, progress)
    for batch, values in _read((batch, log_probs_of(logits, targets)) for batch, logits, targets in batches):
        result[batch] = values
    return result


def log_probs_of(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Log-probability of one token a row: logits (n, vocabulary) float32, targets (n,) to (n,) float64."""
    return (logits.gather(1, targets[:, None]).squeeze(1) - logits.logsumexp(1)).double()


def vocabulary_log_probs(
    model: MaskedLM, sequences: Sequence[Integers], positions: Integers
) -> Iterator[tuple[Integers, Floats]]:
    """The whole distribution at one position of each sequence, masked beforehand by the caller.

    Yields (indices of the sequences, log-probabilities (n, vocabulary) float32), natural log, batch by batch.
    """
    queries = Queries(np.arange(len(sequences)), positions, positions)
    # Rows beyond the tokenizer's vocabulary are padding of the embedding matrix, but part of the softmax.
    yield from _read((batch, logits.log_softmax(1)) for batch, logits, _ in predictions(model, sequences, queries))


def _read(results: Iterable[tuple[Integers, torch.Tensor]]) -> Iterator[tuple[Integers, Floats]]:
    """Each batch's values as an array; from a GPU one batch late, copied while the next one is computed."""
    late: tuple[Integers, torch.Tensor, torch.cuda.Event] | None = None
    for batch, values in results:
        if values.device.type != "cuda":
            yield batch, values.cpu().numpy()
            continue
        copy = torch.empty(values.shape, dtype=values.dtype, pin_memory=True).copy_(values, non_blocking=True)
        copied = torch.cuda.Event()
        copied.record()
        if late:
            yield _arrived(*late)
        late = batch, copy, copied
    if late:
        yield _arrived(*late)


def _arrived(batch: Integers, copy: torch.Tensor, copied: torch.cuda.Event) -> tuple[Integers, Floats]:
    copied.synchronize()
    return batch, copy.numpy()


def predictions(
    model: MaskedLM,
    sequences: Sequence[Integers],
    queries: Queries,
    tokens_per_batch: int = TOKENS_PER_BATCH,
    precision: ScoringPrecision = "float32",
    progress: Report | None = None,
) -> Iterator[tuple[Integers, torch.Tensor, torch.Tensor]]:
    """Yield (query indices, logits (n, vocabulary) float32, tokens asked for (n,) int64), batch by batch.

    Longest sequences first, equal ones in the order of the queries. The batches follow from the lengths of the
    sequences alone, whatever the model. Logits and tokens are on the model's device, which nothing here waits for.
    """
    if not len(queries.sequence):
        return
    sequence_lengths = np.fromiter((len(s) for s in sequences), np.int64, len(sequences))
    starts = np.concatenate([[0], np.cumsum(sequence_lengths)[:-1]])
    flat = np.concatenate(sequences).astype(np.int64)
    lengths = sequence_lengths[queries.sequence]

    def run(batch: Integers) -> tuple[torch.Tensor, torch.Tensor]:
        width = np.arange(int(lengths[batch[0]]))
        real = width < lengths[batch][:, None]
        ids = flat[np.where(real, starts[queries.sequence[batch]][:, None] + width, 0)]
        ids[~real] = model.tokenizer.pad_token_id
        first, rows = queries.position[batch], np.arange(len(batch))
        targets = ids[rows, first]
        ids[(width >= first[:, None]) & (width < queries.mask_end[batch][:, None])] = model.tokenizer.mask_token_id
        ids_, rows_, columns, real_ = (torch.from_numpy(array) for array in (ids, rows, first, lengths[batch]))
        return model.logits(ids_, rows_, columns, real_, precision), sent(torch.from_numpy(targets), model.device)

    report = _reporter(int(lengths.sum()), progress)
    batches = list(batches_of_tokens(lengths, tokens_per_batch))
    usual = batches[len(batches) // 2]
    kernels = fastest_kernels(model.model, lambda: run(usual), model.kernel_choice)
    with kernels if precision == "float32" else nullcontext():
        for batch in batches:
            yield batch, *run(batch)
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
