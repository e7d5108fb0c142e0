"""Significance tests against statsmodels, scipy, enumeration and simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from robbertje_lib.statistics.calibration import simulate_accuracy
from robbertje_lib.statistics.resampling import f1, ratio, scores_by_seed
from robbertje_lib.statistics.significance import (
    Difference,
    detectable_difference,
    effect_size,
    equivalence_test,
    hierarchical_bootstrap,
    holm,
    mcnemar_exact,
    paired_bootstrap,
    permutation_test,
    sample_factor,
)
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
    observed = abs(scores_by_seed(COUNTS_A, f1)[0] - scores_by_seed(COUNTS_B, f1)[0])
    exact = np.mean(np.abs(enumerated_differences(COUNTS_A, COUNTS_B)) >= observed - 1e-12)
    result = permutation_test(COUNTS_A, COUNTS_B, f1, 40_000, np.random.default_rng(0))
    assert result == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 40_000))


def test_permutation_counts_the_observed_split_and_is_never_zero() -> None:
    right, wrong = np.tile([1, 1], (40, 1)), np.tile([0, 1], (40, 1))
    assert permutation_test(right, wrong, ratio, 99, np.random.default_rng(0)) == pytest.approx(1 / 100)
    assert permutation_test(right, right, ratio, 99, np.random.default_rng(0)) == 1.0


def test_paired_bootstrap_agrees_with_scipy() -> None:
    a, b = simulate_accuracy(300, 0.05, np.random.default_rng(3))
    ours = paired_bootstrap(a, b, ratio, 20_000, np.random.default_rng(0))
    theirs = stats.bootstrap(
        (a[0, :, 0], b[0, :, 0]),
        lambda x, y, axis: x.mean(axis) - y.mean(axis),
        paired=True,
        n_resamples=20_000,
        method="percentile",
        rng=np.random.default_rng(1),
    )
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.0035)  # a step is 1/300
    assert ours.standard_error == pytest.approx(theirs.standard_error, rel=0.03)


def test_hierarchical_error_is_the_spread_of_repeated_experiments() -> None:
    """The standard error must be what the difference really varies by when seeds and examples are drawn anew."""
    rng = np.random.default_rng(0)
    values, errors = [], []
    for _ in range(400):
        a, b = simulate_accuracy(200, 0.02, rng, seeds=4, spread=0.1)
        result = hierarchical_bootstrap(a, b, ratio, 100, rng)
        values.append(result.value)
        errors.append(result.standard_error**2)
    assert np.mean(errors) == pytest.approx(np.var(values), rel=0.2)


def test_hierarchical_bootstrap_of_one_seed_is_refused() -> None:
    a, b = simulate_accuracy(50, 0.0, np.random.default_rng(0))
    with pytest.raises(ValueError, match="two or more each"):
        hierarchical_bootstrap(a, b, ratio, 50, np.random.default_rng(0))


def test_equivalence_agrees_with_statsmodels() -> None:
    a, b = simulate_accuracy(2000, 0.0, np.random.default_rng(5))
    result = paired_bootstrap(a, b, ratio, 4000, np.random.default_rng(0))
    expected = ttost_paired(a[0, :, 0], b[0, :, 0], -0.02, 0.02)[0]
    assert equivalence_test(result, 0.02) == pytest.approx(expected, abs=0.01)


def test_a_model_equals_itself_and_is_alike() -> None:
    a, _ = simulate_accuracy(100, 0.0, np.random.default_rng(0), seeds=3)
    same = hierarchical_bootstrap(a[:1].repeat(3, 0), a[:1].repeat(3, 0), ratio, 50, np.random.default_rng(0))
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


def test_effect_size_is_cohens_h() -> None:
    assert effect_size(0.9, 0.8) == pytest.approx(2 * np.arcsin(np.sqrt(0.9)) - 2 * np.arcsin(np.sqrt(0.8)))
