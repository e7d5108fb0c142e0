"""The rules from differences to verdicts: cases, what no step may do, and how often chance alone gets a verdict."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from robbertje_lib.statistics import Verdict
from robbertje_lib.statistics.resampling import ratio
from robbertje_lib.statistics.significance import Difference, difference_of, resample
from robbertje_lib.statistics.simulation import SimulatedGroup, simulate_accuracy
from robbertje_lib.statistics.verdicts import (
    Finding,
    every,
    judge_alike,
    judge_better,
    judge_not_worse,
    majority,
)

Judge = Callable[[dict[str, Difference], float, float], list[Finding]]
JUDGES = [judge_better, judge_alike, judge_not_worse]


def difference(value: float, error: float, degrees: float = 1e9) -> Difference:
    p = float(2 * stats.t.sf(abs(value) / error, degrees))
    reach = float(stats.t.ppf(0.975, degrees)) * error
    return Difference(value, value - reach, value + reach, p, error, degrees)


def judged(judge: Judge, value: float, error: float, degrees: float = 1e9) -> Finding:
    (finding,) = judge({"task": difference(value, error, degrees)}, 0.01, 0.05)
    return finding


@pytest.mark.parametrize(
    ("judge", "value", "error", "expected"),
    [
        (judge_better, 0.05, 0.005, "supported"),
        (judge_better, -0.05, 0.005, "contradicted"),
        (judge_better, 0.012, 0.005, "supported"),
        (judge_better, 0.01, 0.02, "undecided"),
        (judge_better, 0.002, 0.002, "undecided"),  # no gain found: that is no loss
        (judge_better, 0.004, 0.001, "undecided"),  # significant, and of no interest
        (judge_better, -0.004, 0.001, "undecided"),
        (judge_alike, 0.001, 0.002, "supported"),
        (judge_alike, -0.06, 0.01, "contradicted"),
        (judge_alike, 0.001, 0.02, "undecided"),  # not different, but not shown alike either
        (judge_alike, 0.011, 0.001, "undecided"),  # different, yet not clearly beyond the margin
        (judge_alike, 0.009, 0.0001, "supported"),  # significantly different, and still alike
        (judge_not_worse, -0.005, 0.002, "supported"),  # significantly worse, by less than what may be lost
        (judge_not_worse, 0.05, 0.02, "supported"),
        (judge_not_worse, -0.03, 0.005, "contradicted"),
        (judge_not_worse, -0.015, 0.01, "undecided"),  # not different, but not shown to be no worse
    ],
)
def test_one_difference(judge: Judge, value: float, error: float, expected: str) -> None:
    finding = judged(judge, value, error)
    assert finding.outcome == expected
    assert (finding.factor > 1) == (expected == "undecided")


def test_no_sample_gives_a_verdict_where_the_difference_is_of_no_interest() -> None:
    findings = [judged(judge_better, value, 0.001) for value in (0.004, -0.004, 0.0)]
    assert [(finding.bounded, finding.factor) for finding in findings] == [(True, float("inf"))] * 3
    assert not judged(judge_better, 0.01, 0.001).bounded and not judged(judge_better, 0.0, 0.01).bounded


@pytest.mark.parametrize("judge", JUDGES)
def test_several_findings_are_adjusted_together_both_ways(judge: Judge) -> None:
    for value in (0.0022, -0.0022):
        shift = {judge_better: 0.0, judge_alike: np.sign(value) * 0.01, judge_not_worse: -0.01}[judge]
        weak = {str(i): difference(10 * value + shift, 0.01) for i in range(5)}
        assert {f.outcome for f in judge(weak, 0.01, 0.05)} == {"undecided"}
    weak = {str(i): difference(0.022, 0.01) for i in range(5)}
    assert judge_better({"0": weak["0"]}, 0.01, 0.05)[0].outcome == "supported"
    factors = judge_better(weak, 0.01, 0.05)[0].factor, judge_better(dict([*weak.items()][:2]), 0.01, 0.05)[0].factor
    assert factors[0] > factors[1] > 1


VALUES, ERRORS = st.floats(-0.2, 0.2), st.floats(1e-6, 0.2)


def leaps(verdict_at: Callable[[float], Verdict]) -> bool:
    """Whether halving the way from 0 to 1 ends in supported and contradicted side by side."""
    start, end = 0.0, 1.0
    first, last = verdict_at(start), verdict_at(end)
    while {first, last} == {"supported", "contradicted"} and end - start > 1e-12:
        middle = (start + end) / 2
        if (verdict := verdict_at(middle)) == first:
            start = middle
        else:
            end, last = middle, verdict
    return {first, last} == {"supported", "contradicted"}


@pytest.mark.parametrize("judge", JUDGES)
@given(st.tuples(VALUES, VALUES), st.tuples(ERRORS, ERRORS), st.sampled_from([1.0, 3.0, 20.0, 1e9]))
def test_between_contradicted_and_supported_lies_undecided(
    judge: Judge, values: tuple[float, float], errors: tuple[float, float], degrees: float
) -> None:
    """Along either axis, value and standard error, and along both at once."""
    for (v, to_v), (e, to_e) in ((values, errors[:1] * 2), (values[:1] * 2, errors), (values, errors)):
        assert not leaps(lambda x: judged(judge, v + x * (to_v - v), e + x * (to_e - e), degrees).outcome)  # noqa: B023


@pytest.mark.parametrize("ruling", [every, lambda findings: majority(findings, len(findings))])
@given(st.lists(VALUES, min_size=1, max_size=5), VALUES, st.floats(1e-4, 0.1))
def test_one_value_that_moves_does_not_turn_a_ruling_round(
    ruling: Callable[[list[Finding]], tuple[Verdict, float]], values: list[float], to_value: float, error: float
) -> None:
    def ruled(x: float) -> Verdict:
        moved = [values[0] + x * (to_value - values[0]), *values[1:]]
        return ruling(judge_better({str(i): difference(v, error) for i, v in enumerate(moved)}, 0.01, 0.05))[0]

    assert not leaps(ruled)


def test_rulings_over_several_findings() -> None:
    good, bad, open_ = difference(0.1, 0.005), difference(-0.1, 0.005), difference(0.02, 0.05)

    def together(*found: Difference) -> list[Finding]:
        return judge_better({str(i): d for i, d in enumerate(found)}, 0.01, 0.05)

    assert majority(together(good, good, bad), 3) == ("supported", 1.0)
    assert majority(together(good, bad, bad), 3) == ("contradicted", 1.0)
    verdict, factor = majority(together(good, open_, bad), 3)
    assert (verdict, factor > 1) == ("undecided", True)
    assert majority(together(good, good, bad, bad), 4) == ("undecided", float("inf"))  # no sample would
    for own, verdict in ((good, "supported"), (bad, "contradicted")):  # two of three, but not two of five
        assert majority(together(own, own), 3)[0] == verdict
        assert majority(together(own, own), 5) == ("undecided", float("inf"))
    assert every(together(good, good, bad)) == ("contradicted", 1.0)
    assert every(together(good, good)) == ("supported", 1.0)
    verdict, factor = every(together(good, open_))
    assert (verdict, factor > 1) == ("undecided", True)
    assert every([]) == majority([], 0) == ("undecided", float("inf"))


@pytest.mark.parametrize("degrees", [4.0, 1e9])
def test_the_stated_sample_decides(degrees: float) -> None:
    """With `factor` times the sample the error falls by its root, and a difference of that size is found."""
    finding = judged(judge_better, 0.02, 0.015, degrees)
    again = judged(judge_better, 0.02, 0.015 / finding.factor**0.5, degrees * finding.factor)
    assert (finding.outcome, again.outcome) == ("undecided", "supported")


def test_four_students_that_equal_the_teacher_are_contradicted_once_in_twenty_at_most() -> None:
    """Errors so small that nothing but the correction stands against chance; the teacher's chance is in all four."""
    rng = np.random.default_rng(0)
    runs, degrees = 2000, 6.0
    contradicted = 0
    for _ in range(runs):
        students, teacher = rng.standard_normal((2, 4)) * 0.1
        errors = np.sqrt(2 * rng.chisquare(degrees, 4) / degrees) * 0.1
        found = {
            str(i): difference(s - teacher[0], e, degrees)
            for i, (s, e) in enumerate(zip(students, errors, strict=True))
        }
        contradicted += every(judge_better(found, 0.01, 0.05))[0] == "contradicted"
    assert proportion_confint(contradicted, runs, alpha=0.1, method="beta")[1] <= 0.05


@pytest.mark.parametrize("replicates", [3, 5])
def test_students_that_differ_by_chance_alone_get_a_verdict_in_one_case_of_twenty(replicates: int) -> None:
    """Chance of distillation is as large as that of fine-tuning; a test set large enough to find either."""
    rng = np.random.default_rng(replicates)
    alike = SimulatedGroup(replicates, 1, replicate_spread=0.1, seed_spread=0.1)
    outcomes = []
    for _ in range(500):
        a, b = resample(list(simulate_accuracy(500, 0.0, rng, (alike, alike))), ratio, 200, rng)
        (finding,) = judge_better({"A/A": difference_of(a, b, rng)}, 0.01, 0.05)
        outcomes.append(finding.outcome)
    assert 500 - outcomes.count("undecided") <= 0.06 * 500
