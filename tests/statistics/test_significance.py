"""Significance tests against statsmodels, scipy, enumeration and simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from robbertje_lib.statistics.resampling import clustered, f1, ratio, scores_by_unit
from robbertje_lib.statistics.significance import (
    Difference,
    detectable_difference,
    difference_of,
    effect_size,
    equivalence_test,
    holm,
    interval_of,
    mcnemar_exact,
    paired_bootstrap,
    permutation_test,
    resample,
    sample_factor,
    welch_difference,
)
from robbertje_lib.statistics.simulation import SimulatedGroup, simulate_accuracy, simulate_clusters
from tests.statistics.test_resampling import COUNTS_A, COUNTS_B, enumerated_differences


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=80))
def test_mcnemar_agrees_with_statsmodels(pairs: list[tuple[bool, bool]]) -> None:
    a, b = np.array(pairs).T
    table = [[np.sum(a & b), np.sum(a & ~b)], [np.sum(~a & b), np.sum(~a & ~b)]]
    expected = mcnemar(table, exact=True).pvalue if table[0][1] + table[1][0] else 1.0
    assert mcnemar_exact(a, b) == pytest.approx(expected, abs=1e-12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_agrees_with_statsmodels(p_values: list[float]) -> None:
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])


def test_holm_of_an_empty_family_is_empty() -> None:
    assert len(holm([])) == 0


def test_permutation_f1_agrees_with_enumeration() -> None:
    observed = abs(scores_by_unit(COUNTS_A, f1)[0] - scores_by_unit(COUNTS_B, f1)[0])
    exact = np.mean(np.abs(enumerated_differences(COUNTS_A, COUNTS_B)) >= observed - 1e-12)
    result = permutation_test(COUNTS_A, COUNTS_B, f1, 40_000, np.random.default_rng(0))
    assert result == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 40_000))


def test_permutation_counts_the_observed_split_and_is_never_zero() -> None:
    right, wrong = np.tile([1, 1], (40, 1)), np.tile([0, 1], (40, 1))
    assert permutation_test(right, wrong, ratio, 99, np.random.default_rng(0)) == pytest.approx(1 / 100)
    assert permutation_test(right, right, ratio, 99, np.random.default_rng(0)) == 1.0


def test_two_given_models_differ_as_a_paired_t_test_says() -> None:
    a, b = simulate_accuracy(300, 0.05, np.random.default_rng(3))
    ours = paired_bootstrap(a, b, ratio, 20_000, np.random.default_rng(0))
    theirs = stats.ttest_rel(a[0, 0, :, 0], b[0, 0, :, 0])
    interval = theirs.confidence_interval()
    assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high), abs=0.001)
    assert (ours.p, ours.degrees) == (pytest.approx(theirs.pvalue, rel=0.1), theirs.df)


REPLICATED = SimulatedGroup(4, 2, replicate_spread=0.15, seed_spread=0.1)
SEEDS_ALONE = SimulatedGroup(5, 1, seed_spread=0.1)


@pytest.mark.parametrize("other", [REPLICATED, SEEDS_ALONE, SimulatedGroup()], ids=["replicates", "seeds", "given"])
def test_the_error_is_the_spread_of_repeated_experiments(other: SimulatedGroup) -> None:
    """The standard error must be what the difference varies by when replicates, seeds and examples are drawn anew."""
    rng = np.random.default_rng(0)
    values, errors = [], []
    for _ in range(600):
        a, b = simulate_accuracy(200, 0.02, rng, (REPLICATED, other))
        result = paired_bootstrap(a, b, ratio, 200, rng)
        values.append(result.value)
        errors.append(result.standard_error**2)
    assert np.mean(errors) == pytest.approx(np.var(values), rel=0.2)


def test_groups_of_unequal_runs_are_paired_on_the_same_draws() -> None:
    a, b = simulate_accuracy(100, 0.0, np.random.default_rng(0), (REPLICATED, SEEDS_ALONE))
    both = resample([a, b, a[0]], ratio, 50, np.random.default_rng(0))
    assert [(group.scores.shape, group.drawn.shape) for group in both] == [
        ((4,), (50, 4)), ((5,), (50, 5)), ((2,), (50, 2))]  # fmt: skip
    assert both[0].drawn[:, 0] == pytest.approx(both[2].drawn.mean(axis=1))


def test_an_interval_is_of_the_units_and_the_clusters() -> None:
    rng = np.random.default_rng(0)
    counts = np.stack([simulate_clusters(30, 10, 0.5, rng) for _ in range(4)])
    by_cluster = clustered(counts, np.arange(300) // 10)
    examples, clusters, units = (
        resample([own], ratio, 500, rng)[0] for own in (counts[0], by_cluster[0], by_cluster)
    )  # fmt: skip
    assert [interval_of(given, rng).degrees for given in (examples, clusters)] == [299, 29]
    found, narrower = (interval_of(units, np.random.default_rng(1), level) for level in (0.95, 0.9))
    assert found.value == pytest.approx(units.scores.mean()) and 3 <= found.degrees < 32
    assert found.low < narrower.low < found.value < narrower.high < found.high


def test_what_cannot_be_compared_is_refused() -> None:
    rng = np.random.default_rng(0)
    a, b, few = (resample([simulate_accuracy(n, 0.0, rng)[0]], ratio, 50, rng)[0] for n in (40, 41, 1))
    for pair in ((a, b), (few, few)):
        with pytest.raises(ValueError, match="the same two or more are needed"):
            difference_of(*pair, rng)


@pytest.mark.parametrize("runs", [2, 3, 8])
def test_equally_many_runs_are_compared_as_welch_does_but_for_the_degrees_of_freedom(runs: int) -> None:
    a, b = np.random.default_rng(runs).normal([[0.0], [0.5]], [[1.0], [2.0]], (2, runs))
    ours, theirs = welch_difference(a, b, 0.9), stats.ttest_ind(a, b, equal_var=False)
    assert ours.value / ours.standard_error == pytest.approx(theirs.statistic)
    assert ours.degrees == pytest.approx(theirs.df * runs / (runs - 1) - 1)
    expected = stats.t(ours.degrees, ours.value, ours.standard_error)
    assert (ours.low, ours.high) == pytest.approx(expected.interval(0.9))
    assert ours.p == pytest.approx(2 * stats.t.sf(abs(theirs.statistic), ours.degrees))


@pytest.mark.parametrize("runs", [2, 3, 5, 10])
def test_equal_runs_keep_the_level(runs: int) -> None:
    rng = np.random.default_rng(runs)
    rejected = np.mean([welch_difference(*rng.standard_normal((2, runs))).p <= 0.05 for _ in range(4000)])
    assert 0.033 <= rejected <= 0.057


def test_one_run_says_nothing_of_how_much_runs_differ() -> None:
    with pytest.raises(ValueError, match="1 and 3 runs; two or more each are needed"):
        welch_difference([1.0], [1.0, 2.0, 3.0])


def test_equivalence_agrees_with_statsmodels() -> None:
    a, b = simulate_accuracy(2000, 0.0, np.random.default_rng(5))
    result = paired_bootstrap(a, b, ratio, 4000, np.random.default_rng(0))
    expected = ttost_paired(a[0, 0, :, 0], b[0, 0, :, 0], -0.02, 0.02)[0]
    assert equivalence_test(result, 0.02) == pytest.approx(expected, abs=0.01)


def test_a_model_equals_itself_and_is_alike() -> None:
    a, _ = simulate_accuracy(100, 0.0, np.random.default_rng(0))
    same = paired_bootstrap(a.repeat(3, 0), a.repeat(3, 0), ratio, 50, np.random.default_rng(0))
    assert (same.value, same.p, same.standard_error) == (0.0, 1.0, pytest.approx(0, abs=1e-12))
    assert equivalence_test(Difference(0.0, 0.0, 0.0, 1.0, 0.0, 10.0), 0.01) == 0.0
    assert equivalence_test(Difference(0.02, 0.02, 0.02, 1.0, 0.0, 10.0), 0.01) == 1.0


def test_a_detectable_difference_is_found_four_times_in_five() -> None:
    rng = np.random.default_rng(0)
    a, b = simulate_accuracy(400, 0.0, rng)
    needed = detectable_difference(paired_bootstrap(a, b, ratio, 2000, rng))
    result = [
        paired_bootstrap(*simulate_accuracy(400, needed, rng), ratio, 199, rng).p <= 0.05 for _ in range(300)
    ]  # fmt: skip
    assert np.mean(result) == pytest.approx(0.8, abs=0.1)


def test_sample_factor_squares_the_shortfall() -> None:
    difference = Difference(0.01, -0.01, 0.03, 0.3, 0.01, 1e9)
    reach = detectable_difference(difference)
    assert reach == pytest.approx((stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * 0.01, rel=1e-6)
    assert sample_factor(difference, reach / 2) == pytest.approx(4.0)
    assert sample_factor(difference, 1.0) == 1.0
    assert sample_factor(difference, 0.0) == float("inf")


def test_a_larger_sample_is_also_better_known() -> None:
    few = Difference(0.01, -0.01, 0.03, 0.3, 0.01, 3.0)
    factor = sample_factor(few, 0.01)
    larger = Difference(0.01, 0, 0, 0, 0.01 / factor**0.5, 3.0 * factor)
    assert detectable_difference(larger) == pytest.approx(0.01)
    assert factor < (detectable_difference(few) / 0.01) ** 2


def test_effect_size_is_cohens_h() -> None:
    assert effect_size(0.9, 0.8) == pytest.approx(2 * np.arcsin(np.sqrt(0.9)) - 2 * np.arcsin(np.sqrt(0.8)))
