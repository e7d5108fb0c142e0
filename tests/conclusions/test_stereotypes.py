"""Measures of stereotype: what they see, how often they err where nothing differs, and what they find where it does."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from robbertje_lib.conclusions.stereotypes import MEASURES, compare_stereotypes
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.results.gender_bias import BiasComparison, Stereotype
from tests.support.bias_probe import PROFESSIONS, TEACHER, Probe


def compared(probe: Probe, *students: Sequence[pd.DataFrame]) -> tuple[list[Stereotype], list[BiasComparison]]:
    groups = {"teacher": [probe.model(TEACHER)], **{f"student_{n}": own for n, own in enumerate(students)}}
    return compare_stereotypes(groups, 300, np.random.default_rng(0))


def read(rows: Sequence[Stereotype], group: str = "teacher") -> dict[str, float]:
    return {row.measure: row.value for row in rows if row.group == group}


def test_measures_are_what_numpy_says() -> None:
    probe = Probe(np.random.default_rng(0))
    rows, _ = compare_stereotypes({"teacher": [own := probe.model(TEACHER, 1.0)]}, 100, np.random.default_rng(0))
    gender = own["associated_gender"]
    assert read(rows) == pytest.approx(
        {
            "log_odds_slope": np.polyfit(gender, own["log_odds"], 1)[0],
            "rank_slope": -np.polyfit(gender, own["rank_difference"], 1)[0],
            "lpbs_spread": own["lpbs"].std(ddof=0),
        }
    )
    assert all(row.professions == PROFESSIONS and row.interval[0] < row.value < row.interval[1] for row in rows)
    slope = next(row for row in rows if row.measure == "log_odds_slope")
    expected = stats.linregress(gender, own["log_odds"])
    assert (slope.interval[1] - slope.interval[0]) / 2 == pytest.approx(2.02 * expected.stderr, rel=0.3)


def test_a_level_is_no_stereotype() -> None:
    probe = Probe(np.random.default_rng(0))
    own = probe.model(TEACHER)
    lifted = own.assign(
        log_odds=own["log_odds"] + 5, rank_difference=own["rank_difference"] - 900, lpbs=own["lpbs"] - 3
    )
    rows, (*comparisons,) = compare_stereotypes({"teacher": [own], "a": [lifted]}, 100, np.random.default_rng(0))
    assert read(rows, "a") == pytest.approx(read(rows))
    assert [row.difference for row in comparisons] == pytest.approx([0.0] * 3, abs=1e-9)


def test_a_stereotype_turned_round_is_as_much_of_one() -> None:
    probe = Probe(np.random.default_rng(0))
    rows, comparisons = compared(probe, [probe.model(-TEACHER) for _ in range(3)])
    assert read(rows, "student_0")["log_odds_slope"] == pytest.approx(-TEACHER, abs=0.5)
    by_slope = comparisons[0]
    assert by_slope.student_value == pytest.approx(TEACHER, abs=0.5) and by_slope.p > 0.05


def test_replicates_of_opposite_stereotypes_do_not_cancel() -> None:
    probe = Probe(np.random.default_rng(0))
    _, comparisons = compared(probe, [probe.model(sign * TEACHER) for sign in (1, -1, 1, -1)])
    assert comparisons[0].student_value == pytest.approx(TEACHER, abs=0.5)


def test_without_genders_there_is_no_slope() -> None:
    probe = Probe(np.random.default_rng(0))
    alike = probe.model(TEACHER).assign(associated_gender=0.0)
    unknown = alike.assign(associated_gender=np.nan)
    few = alike.assign(associated_gender=[-1.0, 1.0] + [np.nan] * (PROFESSIONS - 2))
    for own in (alike, unknown, few):
        rows, _ = compare_stereotypes({"teacher": [own]}, 50, np.random.default_rng(0))
        assert [row.measure for row in rows] == ["lpbs_spread"]


def test_professions_without_a_gender_count_for_the_spread_alone() -> None:
    probe = Probe(np.random.default_rng(0))
    own = probe.model(TEACHER)
    own.loc[:9, "associated_gender"] = np.nan
    rows, _ = compare_stereotypes({"teacher": [own]}, 50, np.random.default_rng(0))
    assert {row.measure: row.professions for row in rows} == {
        "log_odds_slope": PROFESSIONS - 10, "rank_slope": PROFESSIONS - 10, "lpbs_spread": PROFESSIONS
    }  # fmt: skip


def test_other_professions_are_refused() -> None:
    probe = Probe(np.random.default_rng(0))
    groups = {"teacher": [probe.model(1.0)], "merged": [probe.model(1.0), probe.model(1.0).iloc[1:]]}
    with pytest.raises(UserError, match="merged and teacher were probed on other professions"):
        compare_stereotypes(groups, 50, np.random.default_rng(0))


@pytest.mark.parametrize("replicates", [3, 5])
def test_each_measure_errs_as_often_as_it_says(replicates: int) -> None:
    """Students that differ from the teacher by chance alone, at the level of models and in reading."""
    rng, pairs = np.random.default_rng(replicates), 300
    found = dict.fromkeys(MEASURES, 0)
    for _ in range(pairs):
        probe = Probe(rng)
        for row in compared(probe, probe.student(TEACHER, replicates))[1]:
            found[row.measure] += row.p <= 0.05
    # At a true rate of .05 more than 26 of 300 would be seen once in 400.
    assert max(found.values()) <= 26, found


@pytest.mark.parametrize(("replicates", "power"), [(3, 0.8), (5, 0.95)])
def test_a_planted_difference_is_found(replicates: int, power: float) -> None:
    rng, pairs = np.random.default_rng(0), 40
    found = dict.fromkeys(MEASURES, 0)
    for _ in range(pairs):
        probe = Probe(rng)
        for row in compared(probe, probe.student(0.7 * TEACHER, replicates))[1]:
            found[row.measure] += row.p <= 0.05 and row.difference > 0
    assert min(found.values()) >= power * pairs, found


@pytest.mark.parametrize("ratio", [0.2, 1.6])
def test_the_interval_of_a_share_holds_the_true_one_as_often_as_it_says(ratio: float) -> None:
    """The teacher is read with noise of its own; its true slope and the students' are planted."""
    rng, pairs, held, plain = np.random.default_rng(1), 300, 0, 0
    for _ in range(pairs):
        probe = Probe(rng)
        groups = {"teacher": [probe.model(TEACHER, noise=2.0)], "a": probe.student(ratio * TEACHER, 5)}
        row = compare_stereotypes(groups, 300, rng)[1][0]
        assert row.share == pytest.approx(row.difference / row.teacher_value)
        held += row.share_interval[0] <= 1 - ratio <= row.share_interval[1]
        low, high = (end / row.teacher_value for end in row.interval)
        plain += low <= 1 - ratio <= high
    assert 0.92 * pairs <= held, held
    assert plain < 0.9 * pairs or ratio < 1  # as if the teacher's value were known: too sure beyond it
