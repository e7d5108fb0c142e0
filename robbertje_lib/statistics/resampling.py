"""Resampling engines: per-example counts swapped between two systems, or redrawn, in chunks of bounded memory.

Every score here is a function of counts summed over examples: accuracy of (correct, all), F1 of (true positive,
false positive, false negative), nats per token of (negative log-likelihood, tokens). A resample is then one row
of a matrix product: (resamples, examples) weights times (examples, counts). That is what makes 10,000
permutations of entity F1 a matter of a second. Examples that are not independent, such as sentences of one document,
are summed first (`clustered`): the cluster is then what is swapped or redrawn.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

# (examples, k), (units, examples, k) or (units, seeds, examples, k). A unit is what chance makes anew: a distillation,
# or a fine-tuning seed where there is one distillation; seeds within a unit are averaged once each has its score.
Counts = NDArray[np.floating] | NDArray[np.integer]
Sums = NDArray[np.floating]  # (..., k): counts summed over examples
Metric = Callable[[Sums], NDArray[np.floating]]  # (..., k) -> (...)

CHUNK_CELLS = 2**23  # weights held at once: 32 MB as float32


def ratio(sums: Sums) -> NDArray[np.floating]:
    """First count over second: accuracy of (correct, all), or nats per token of (nats, tokens); (..., 2) -> (...)."""
    return sums[..., 0] / sums[..., 1]


def f1(sums: Sums) -> NDArray[np.floating]:
    """F1 of (true positives, false positives, false negatives), 0 where there are none; (..., 3) -> (...)."""
    positives = 2 * sums[..., 0] + sums[..., 1] + sums[..., 2]
    return 2 * sums[..., 0] / np.where(positives == 0, 1, positives)


def clustered(counts: Counts, clusters: ArrayLike) -> NDArray[np.floating]:
    """Counts summed within each cluster of examples: (..., examples, k) -> (..., clusters, k), in order of appearance.

    clusters: (examples,), whatever tells clusters apart. Raises ValueError where it has another length.
    """
    array, ids = np.asarray(counts, dtype=np.float64), np.asarray(clusters)
    if ids.shape != array.shape[-2:-1]:
        raise ValueError(f"{ids.shape} clusters for counts of shape {array.shape}; one an example is needed")
    _, first, member = np.unique(ids, return_index=True, return_inverse=True)
    place = np.argsort(np.argsort(first))[member]
    order = np.argsort(place, kind="stable")
    return np.add.reduceat(array[..., order, :], np.searchsorted(place[order], np.arange(len(first))), axis=-2)


def by_unit(counts: Counts) -> NDArray[np.float64]:
    """Counts as (units, seeds, examples, k); one seed where none is told apart. Raises ValueError for other shapes."""
    array = np.asarray(counts, dtype=np.float64)
    if array.ndim not in (2, 3, 4) or 0 in array.shape:
        raise ValueError(f"counts have shape {array.shape}; ([units, [seeds,]] examples, k) is needed")
    return array if array.ndim == 4 else array.reshape(-1, 1, *array.shape[-2:])


def scores_by_unit(counts: Counts, metric: Metric) -> NDArray[np.floating]:
    """The metric of each unit, averaged over its seeds, (units,)."""
    return metric(by_unit(counts).sum(axis=2)).mean(axis=1)


def permuted_differences(
    counts_a: Counts, counts_b: Counts, metric: Metric, permutations: int, rng: np.random.Generator
) -> NDArray[np.floating]:
    """Differences a - b after swapping, for each example with probability 1/2, what the two systems made of it.

    Stratified shuffling of Yeh (2000): an example is a stratum. What all units and seeds made of an example is swapped
    together, and the metric is averaged over them. Result: (permutations,).
    """
    a, b = by_unit(counts_a), by_unit(counts_b)
    if a.shape != b.shape:
        raise ValueError(f"paired counts differ in shape: {a.shape} and {b.shape}")
    *_, examples, k = a.shape
    a, b = a.reshape(-1, examples, k), b.reshape(-1, examples, k)
    gaps = np.moveaxis(a - b, 0, 1).reshape(examples, -1)
    gaps = gaps[gaps.any(axis=1)]  # swapping equals changes nothing
    gaps = gaps.astype(_exact_type(gaps))
    total_a, total_b = a.sum(axis=1), b.sum(axis=1)
    differences = []
    for rows in _chunks(permutations, max(1, len(gaps))):
        width = -(-len(gaps) // 8)
        bits = np.frombuffer(rng.bytes(rows * width), np.uint8).reshape(rows, width)
        swap = np.unpackbits(bits, axis=1, count=len(gaps)).astype(gaps.dtype)
        moved = (swap @ gaps).reshape(rows, -1, k).astype(np.float64)
        differences.append(metric(total_a - moved).mean(axis=1) - metric(total_b + moved).mean(axis=1))
    return np.concatenate(differences)


def bootstrapped_scores(
    counts: Counts, metric: Metric, resamples: int, rng: np.random.Generator
) -> NDArray[np.floating]:
    """The metric of each unit on examples drawn with replacement, the same draw for all; (resamples, units).

    Stack the counts of paired systems along the first axis to score them all on the same draws: that pairing,
    and not the resampling, is what makes a bootstrap paired.
    """
    array = by_unit(counts)
    units, seeds, examples, k = array.shape
    columns = np.moveaxis(array, 2, 0).reshape(examples, -1)
    columns = columns.astype(_exact_type(columns))
    scores = []
    for rows in _chunks(resamples, examples):
        drawn = rng.integers(examples, size=(rows, examples)) + np.arange(rows)[:, np.newaxis] * examples
        weights = np.bincount(drawn.ravel(), minlength=rows * examples).reshape(rows, examples)
        sums = (weights.astype(columns.dtype) @ columns).reshape(rows, units, seeds, k)
        scores.append(metric(sums.astype(np.float64)).mean(axis=2))
    return np.concatenate(scores)


def percentile_interval(drawn: NDArray[np.floating], level: float = 0.95) -> tuple[float, float]:
    """The middle share `level` of resampled values of one quantity, as (low, high)."""
    low, high = np.percentile(drawn, [50 - 50 * level, 50 + 50 * level])
    return float(low), float(high)


def _exact_type(values: NDArray[np.floating]) -> type[np.floating]:
    """float32 where sums of each column stay exact integers with room for a draw's repeats, else float64."""
    whole = np.array_equal(values, np.rint(values))
    return np.float32 if whole and np.abs(values).sum(axis=0).max(initial=0) < 2**22 else np.float64


def _chunks(total: int, width: int) -> Iterator[int]:
    rows = max(1, CHUNK_CELLS // width)
    for start in range(0, total, rows):
        yield min(rows, total - start)
