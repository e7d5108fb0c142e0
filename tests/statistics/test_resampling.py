"""The resampling engines against enumeration and known moments."""

from itertools import product

import numpy as np
import pytest

from robbertje_lib.statistics import resampling
from robbertje_lib.statistics.resampling import (
    bootstrapped_scores,
    clustered,
    f1,
    percentile_interval,
    permuted_differences,
    ratio,
    scores_by_unit,
)

COUNTS_A = np.array([[2, 0, 1], [1, 1, 0], [0, 0, 2], [3, 1, 0], [0, 1, 1]])
COUNTS_B = np.array([[1, 1, 2], [1, 0, 0], [1, 0, 1], [2, 0, 1], [0, 1, 1]])


def enumerated_differences(a: np.ndarray, b: np.ndarray) -> list[float]:
    """The metric's difference under every way of swapping, by plain loops."""
    differences = []
    for swaps in product((False, True), repeat=len(a)):
        first = sum(b[i] if swap else a[i] for i, swap in enumerate(swaps))
        second = sum(a[i] if swap else b[i] for i, swap in enumerate(swaps))
        differences.append(float(f1(first) - f1(second)))
    return differences


def test_permutations_cover_what_enumeration_finds_and_nothing_else() -> None:
    drawn = permuted_differences(COUNTS_A, COUNTS_B, f1, 5000, np.random.default_rng(0))
    assert set(np.round(drawn, 9)) == set(np.round(enumerated_differences(COUNTS_A, COUNTS_B), 9))


def test_permutations_swap_all_seeds_of_an_example_together() -> None:
    a = np.stack([COUNTS_A, COUNTS_A])
    b = np.stack([COUNTS_B, COUNTS_B])
    drawn = permuted_differences(a, b, f1, 2000, np.random.default_rng(0))
    assert set(np.round(drawn, 9)) <= set(np.round(enumerated_differences(COUNTS_A, COUNTS_B), 9))


@pytest.mark.parametrize("cells", [7, 100, 2**23])
def test_bootstrap_has_the_mean_and_error_of_theory_in_any_chunk_size(
    cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resampling, "CHUNK_CELLS", cells)
    correct = np.arange(50) % 5 > 0
    counts = np.stack([correct, np.ones(50)], axis=1)
    drawn = bootstrapped_scores(counts, ratio, 4000, np.random.default_rng(0))
    assert drawn.shape == (4000, 1)
    assert drawn.mean() == pytest.approx(0.8, abs=0.004)
    assert drawn.std() == pytest.approx(np.sqrt(0.8 * 0.2 / 50), rel=0.05)


def test_stacked_systems_are_scored_on_the_same_draws() -> None:
    drawn = bootstrapped_scores(np.stack([COUNTS_A, COUNTS_A]), f1, 200, np.random.default_rng(0))
    assert np.array_equal(drawn[:, 0], drawn[:, 1])


def test_unwhole_counts_keep_their_precision() -> None:
    nats = np.random.default_rng(0).gamma(2.0, 1.0, (300, 1)) + 1e6
    counts = np.concatenate([nats, np.ones((300, 1))], axis=1)
    drawn = bootstrapped_scores(counts, ratio, 50, np.random.default_rng(1))
    rows = np.random.default_rng(1).integers(300, size=(50, 300))
    assert drawn[:, 0] == pytest.approx(nats[rows, 0].mean(axis=1), rel=1e-13)


def test_a_percentile_interval_holds_the_middle_of_what_was_drawn() -> None:
    drawn = np.random.default_rng(0).permutation(np.arange(1001.0))[:, np.newaxis]
    assert percentile_interval(drawn) == (25.0, 975.0)
    assert percentile_interval(drawn, 0.9) == (50.0, 950.0)


def test_f1_of_nothing_is_zero() -> None:
    assert f1(np.zeros(3)) == 0
    assert scores_by_unit(COUNTS_A, f1)[0] == pytest.approx(2 * 6 / (2 * 6 + 3 + 4))


def test_unpaired_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        permuted_differences(COUNTS_A, COUNTS_B[:-1], f1, 10, np.random.default_rng(0))
    with pytest.raises(ValueError, match="counts have shape"):
        bootstrapped_scores(np.zeros(3), f1, 10, np.random.default_rng(0))


def test_seeds_within_a_unit_are_averaged_after_the_metric() -> None:
    runs = np.stack([COUNTS_A, COUNTS_B, COUNTS_B, COUNTS_B])
    units = runs.reshape(2, 2, *COUNTS_A.shape)
    apart = scores_by_unit(runs, f1)
    assert scores_by_unit(units, f1) == pytest.approx([apart[:2].mean(), apart[2:].mean()])
    drawn = bootstrapped_scores(runs, f1, 50, np.random.default_rng(0))
    assert bootstrapped_scores(units, f1, 50, np.random.default_rng(0)) == pytest.approx(
        drawn.reshape(50, 2, 2).mean(axis=2)
    )


def test_clusters_are_summed_in_order_of_appearance() -> None:
    counts = np.arange(20).reshape(2, 5, 2)
    summed = clustered(counts, ["b", "a", "b", "c", "a"])
    assert summed.tolist() == [[[4, 6], [10, 12], [6, 7]], [[24, 26], [30, 32], [16, 17]]]
    assert np.array_equal(clustered(counts, range(5)), counts)
    with pytest.raises(ValueError, match=r"\(4,\) clusters for counts of shape \(2, 5, 2\)"):
        clustered(counts, range(4))
