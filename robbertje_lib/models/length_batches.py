"""Sequences in batches of like length, which leaves next to no padding."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Integers = NDArray[np.integer]


def by_length(lengths: ArrayLike) -> Integers:
    """Indices from the shortest to the longest; equal lengths stay in order."""
    return np.argsort(lengths, kind="stable")


def batches_of_rows(lengths: Sequence[int], rows: int) -> list[Integers]:
    """Indices in batches of `rows` sequences, shortest first; the last one may hold fewer."""
    order = by_length(lengths)
    return [order[start : start + rows] for start in range(0, len(order), rows)]


def batches_of_tokens(lengths: Integers, tokens: int) -> Iterator[Integers]:
    """Indices in batches of at most `tokens` positions, padding counted, longest first.

    A batch holds at least one sequence.
    """
    order = by_length(-lengths)
    start = 0
    while start < len(order):
        rows = max(1, tokens // int(lengths[order[start]]))
        yield order[start : start + rows]
        start += rows
