"""The rules from differences to verdicts."""

import pytest
from scipy import stats

from robbertje_lib.statistics.significance import Difference
from robbertje_lib.statistics.verdicts import every, judge_alike, judge_better, majority


def difference(value: float, error: float) -> Difference:
    p = float(2 * stats.norm.sf(abs(value) / error))
    return Difference(value, value - 1.96 * error, value + 1.96 * error, p, error, 1e9)


@pytest.mark.parametrize(
    ("value", "error", "expected"),
    [
        (0.05, 0.005, "supported"),
        (-0.05, 0.005, "contradicted"),
        (0.002, 0.002, "contradicted"),  # no gain found, and any gain lies below the margin
        (0.01, 0.02, "undecided"),
    ],
)
def test_better(value: float, error: float, expected: str) -> None:
    (finding,) = judge_better({"task": difference(value, error)}, margin=0.01, alpha=0.05)
    assert finding.outcome == expected
    assert (finding.factor > 1) == (expected == "undecided")


@pytest.mark.parametrize(
    ("value", "error", "expected"),
    [
        (0.001, 0.002, "supported"),
        (-0.06, 0.01, "contradicted"),
        (0.001, 0.02, "undecided"),  # not different, but not shown alike either
        (0.011, 0.001, "undecided"),  # different, yet not clearly beyond the margin
        (0.009, 0.0001, "supported"),  # significantly different, and still alike
    ],
)
def test_alike(value: float, error: float, expected: str) -> None:
    (finding,) = judge_alike({"task": difference(value, error)}, margin=0.01, alpha=0.05)
    assert finding.outcome == expected


def test_several_findings_are_adjusted_together() -> None:
    weak = {str(i): difference(0.022, 0.01) for i in range(5)}
    assert {f.outcome for f in judge_better(weak, 0.01, 0.05)} == {"undecided"}
    assert judge_better({"0": weak["0"]}, 0.01, 0.05)[0].outcome == "supported"


def test_majority_and_every() -> None:
    good, bad, open_ = difference(0.1, 0.005), difference(-0.1, 0.005), difference(0.02, 0.05)

    def judged(*found: Difference) -> list:
        return judge_better({str(i): d for i, d in enumerate(found)}, 0.01, 0.05)

    assert majority(judged(good, good, bad))[0] == "supported"
    assert majority(judged(good, bad, bad))[0] == "contradicted"
    assert majority(judged(good, open_, bad))[0] == "undecided"
    assert every(judged(good, good, bad))[0] == "contradicted"
    assert every(judged(good, good))[0] == "supported"
    verdict, factor = every(judged(good, open_))
    assert (verdict, factor > 1) == ("undecided", True)


def test_the_stated_sample_decides() -> None:
    """With `factor` times the sample the standard error falls by its root, and the same difference is found."""
    (finding,) = judge_better({"task": difference(0.02, 0.015)}, 0.01, 0.05)
    (again,) = judge_better({"task": difference(0.02, 0.015 / finding.factor**0.5)}, 0.01, 0.05)
    assert (finding.outcome, again.outcome) == ("undecided", "supported")
