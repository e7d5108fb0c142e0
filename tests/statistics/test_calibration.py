"""Every test that we offer keeps its level on null data and beats the shortcuts on planted effects."""

import numpy as np
import pytest

from robbertje_lib.conclusions.comparisons import CALIBRATION_SEED
from robbertje_lib.statistics import RejectionRate
from robbertje_lib.statistics.calibration import calibration_study, simulate_accuracy, simulate_entities
from robbertje_lib.statistics.resampling import f1, ratio, scores_by_seed


@pytest.fixture(scope="module")
def study() -> list[RejectionRate]:
    """The shipped study, at null and at one planted difference."""
    return calibration_study(CALIBRATION_SEED, power_simulations=200, differences=(0.08,))


def rate(study: list[RejectionRate], test: str, data: str, difference: float) -> float:
    (row,) = [r for r in study if (r.test, r.data, r.difference) == (test, data, difference)]
    return row.rejected


def test_offered_tests_keep_their_level(study: list[RejectionRate]) -> None:
    rates = {(r.test, r.data): r.rejected for r in study if r.offered and r.difference == 0}
    assert len(rates) == 7
    assert {name: value for name, value in rates.items() if value > 0.06} == {}


def test_pairing_finds_what_the_shortcuts_miss(study: list[RejectionRate]) -> None:
    assert rate(study, "exact McNemar", "accuracy", 0.08) > rate(study, "unpaired z", "accuracy", 0.08) + 0.1
    assert rate(study, "paired bootstrap", "entity F1", 0.08) > rate(study, "bootstrap apart", "entity F1", 0.08)


def test_one_lucky_seed_deceives_and_drawing_seeds_does_not(study: list[RejectionRate]) -> None:
    assert rate(study, "McNemar of one seed", "accuracy over seeds", 0.0) > 0.15
    assert rate(study, "hierarchical bootstrap", "accuracy over seeds", 0.08) > 0.5


def test_likeness_is_found_where_models_are_alike(study: list[RejectionRate]) -> None:
    assert rate(study, "equivalence", "alike", 0.08) > 0.6


@pytest.mark.parametrize("difference", [0.0, 0.05])
def test_simulated_data_hold_the_planted_difference(difference: float) -> None:
    rng = np.random.default_rng(0)
    a, b = simulate_accuracy(200_000, difference, rng)
    assert scores_by_seed(a, ratio)[0] - scores_by_seed(b, ratio)[0] == pytest.approx(difference, abs=0.004)
    a, b = simulate_entities(200_000, difference, rng)
    assert scores_by_seed(a, f1)[0] - scores_by_seed(b, f1)[0] == pytest.approx(difference, abs=0.01)
