"""The shipped study is this code's, and says that every test offered keeps its level; its data are as they claim."""

import json

import numpy as np
import pytest

from robbertje_lib.experiment import paths
from robbertje_lib.statistics import CoverageRate, RejectionRate, calibration
from robbertje_lib.statistics.resampling import f1, ratio, scores_by_unit
from robbertje_lib.statistics.simulation import (
    ACCURACY,
    SimulatedGroup,
    simulate_accuracy,
    simulate_clusters,
    simulate_entities,
    simulate_speeds,
)

RATES, COVERAGE, SETTINGS = calibration.shipped()
BY_REPLICATES = [r for r in RATES if r.offered and r.replicates and r.difference == 0]
EQUALS = {"replicates", "alike", "speeds"}


def rate(test: str, data: str, difference: float, replicates: int | None = None, ratio: float | None = None) -> float:
    known = (test, data, difference, replicates, ratio)
    (row,) = [r for r in RATES if (r.test, r.data, r.difference, r.replicates, r.spread_ratio) == known]
    return row.rejected


def test_the_shipped_study_is_of_this_code() -> None:
    """Where this fails: `python -m robbertje_lib.statistics.calibration`, in about five minutes."""
    stored = json.loads((paths.DATA / "calibration.json").read_text(encoding="utf-8"))
    assert (stored["source"], SETTINGS) == (calibration.source_digest(), calibration.SETTINGS)
    assert {r.simulations for r in RATES if not r.difference} == {calibration.SIMULATIONS}


@pytest.mark.parametrize(("data", "difference"), [("speeds", 0.04), ("entity F1", 0.02)])
def test_a_cell_computed_again_is_the_shipped_one(data: str, difference: float) -> None:
    cell = next(cell for cell in calibration.cells() if cell.data == data and difference in cell.differences)
    again = calibration.calibration_rates(cell, difference, calibration.POWER_SIMULATIONS)
    assert again and all(row in RATES for row in again)


@pytest.mark.parametrize("row", [r for r in BY_REPLICATES if r.replicates >= 3], ids=lambda r: f"{r.data} {r.replicates} {r.spread_ratio}")  # fmt: skip
def test_three_replicates_or_more_keep_the_level(row: RejectionRate) -> None:
    assert 0.03 <= row.rejected <= 0.06


def test_every_number_and_ratio_of_replicates_is_studied() -> None:
    studied = {(r.data, r.replicates, r.spread_ratio) for r in BY_REPLICATES}
    assert studied >= {(kind, n, spread) for kind in EQUALS for n in (3, 5, 10) for spread in (0.5, 1.0, 2.0)}


def test_two_replicates_are_cautious_between_students_and_less_so_against_given_weights() -> None:
    two = {r.data: r.rejected for r in BY_REPLICATES if r.replicates == 2 and r.spread_ratio == 1}
    given = two.pop("replicates against given weights")
    assert max(two.values()) <= 0.06 and given <= 0.09


def test_tests_of_one_run_keep_their_level() -> None:
    alone = {(r.test, r.data): r.rejected for r in RATES if r.offered and not r.replicates and not r.difference}
    assert len(alone) == 5 and max(alone.values()) <= 0.06


def test_pairing_finds_what_the_shortcuts_miss() -> None:
    assert rate("exact McNemar", "accuracy", 0.04) > rate("unpaired z", "accuracy", 0.04) + 0.1
    assert rate("paired bootstrap", "entity F1", 0.04) > rate("bootstrap apart", "entity F1", 0.04)


def test_seeds_of_one_distillation_and_stretches_of_one_run_cry_wolf() -> None:
    for spread, least in ((0.5, 0.1), (1.0, 0.25), (2.0, 0.4)):
        assert rate("seeds and examples", "one distillation", 0.0, 1, spread) > least
        assert rate("stretches of one run", "speeds", 0.0, 1, spread) > least


@pytest.mark.parametrize(
    ("test", "data"), [("replicates and examples", "replicates"), ("equivalence", "alike"), ("Welch of runs", "speeds")]
)
def test_replicates_give_power(test: str, data: str) -> None:
    found = [rate(test, data, 0.08, replicates, 1.0) for replicates in (2, 3, 5, 10)]
    assert found == sorted(found) and found[-1] > 0.9


def test_a_further_replicate_is_worth_more_than_a_second_seed() -> None:
    test = "replicates and examples"
    for difference in calibration.DIFFERENCES[:3]:
        ten = rate(test, "replicates", difference, 10, 1.0)
        five_twice = rate(test, "replicates, two seeds each", difference, 5, 1.0)
        assert ten > five_twice + 0.05 and five_twice > rate(test, "replicates", difference, 5, 1.0)


@pytest.mark.parametrize("row", COVERAGE, ids=lambda row: f"{row.method} {row.clusters} {row.correlation}")
def test_resampled_clusters_cover_and_examples_do_not(row: CoverageRate) -> None:
    low, high = {"clusters": (0.93, 0.97), "clusters, one score": (0.92, 0.97), "examples": (0.0, 0.88)}[row.method]
    assert low <= row.covered <= high


@pytest.mark.parametrize("difference", [0.0, 0.05])
def test_simulated_data_hold_the_planted_difference(difference: float) -> None:
    rng = np.random.default_rng(0)
    a, b = simulate_accuracy(200_000, difference, rng)
    assert scores_by_unit(a, ratio)[0] - scores_by_unit(b, ratio)[0] == pytest.approx(difference, abs=0.004)
    a, b = simulate_entities(200_000, difference, rng)
    assert scores_by_unit(a, f1)[0] - scores_by_unit(b, f1)[0] == pytest.approx(difference, abs=0.01)
    a, b = simulate_speeds(4000, 5, difference, rng, 0.03, 0.03)
    assert a.mean() - b.mean() == pytest.approx(difference, abs=0.003)


def test_simulated_replicates_spread_as_told_and_do_not_move_the_mean() -> None:
    group = SimulatedGroup(300, 2, replicate_spread=0.2, seed_spread=0.1)
    a, _ = simulate_accuracy(5000, 0.0, np.random.default_rng(0), (group, SimulatedGroup()))
    skill = a[..., 0].mean(axis=2)
    assert skill.mean() == pytest.approx(ACCURACY, abs=0.01)
    between, within = np.cov(skill.T)[0, 1], (skill[:, 0] - skill[:, 1]).var() / 2
    assert between / within == pytest.approx(4, rel=0.3)


@pytest.mark.parametrize("correlation", [0.1, 0.3])
def test_simulated_clusters_correlate_as_told(correlation: float) -> None:
    right = simulate_clusters(20_000, 4, correlation, np.random.default_rng(0))[:, 0].reshape(-1, 4)
    assert right.mean() == pytest.approx(ACCURACY, abs=0.01)
    assert np.corrcoef(right.T)[np.triu_indices(4, 1)] == pytest.approx(correlation, abs=0.03)
