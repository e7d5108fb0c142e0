"""What every claim shares: the setting it is judged in, the evidence of a run, and what its test comes to."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import sqrt
from typing import TypeVar

import numpy as np
from scipy import stats

from robbertje_lib.conclusions import published
from robbertje_lib.experiment.profile import Profile
from robbertje_lib.experiment.results.base import Interval, ResultFile
from robbertje_lib.experiment.results.significance import SignificanceResult
from robbertje_lib.experiment.run import Run
from robbertje_lib.statistics import Verdict
from robbertje_lib.statistics.significance import Difference
from robbertje_lib.statistics.verdicts import Finding, majority

MANY = 1e9  # degrees of freedom of a standard error that is as good as known
NO_STUDENTS = "the profile has no such pair of students in this setting"
SAMPLE = "test examples and fine-tuning seeds"
AnyResult = TypeVar("AnyResult", bound=ResultFile)


class NotTested(Exception):
    """Why a run cannot decide a claim."""


@dataclass(frozen=True)
class Setting:
    """One selection and recipe, and its students by (arm, role); a role is `distilbert` or `bort`."""

    name: str
    students: Mapping[tuple[str, str], str]

    def arm(self, arm: str) -> str:
        """The larger student of an arm. Raises `NotTested` where there is none."""
        if (arm, "distilbert") not in self.students:
            raise NotTested(NO_STUDENTS)
        return self.students[arm, "distilbert"]


def settings_of(profile: Profile) -> list[Setting]:
    """Every (selection, recipe) of the profile's students, in their order. A shape is named `bort`, or else large."""
    settings: dict[str, dict[tuple[str, str], str]] = {}
    for name, student in profile.students.items():
        role = "bort" if student.shape == "bort" else "distilbert"
        settings.setdefault(f"{student.selection}, {student.recipe}", {})[student.arm, role] = name
    return [Setting(name, students) for name, students in settings.items()]


@dataclass(frozen=True)
class Decision:
    """What a claim's test came to on one body of evidence."""

    verdict: Verdict
    reason: str
    ours: float | None = None  # the headline number; its unit is the claim's
    interval: Interval | None = None
    findings: list[Finding] = field(default_factory=list)
    factor: float | None = None  # times the sample that would decide an undecided claim


@dataclass(frozen=True)
class Evidence:
    """The result files of a run, read when a claim asks for them."""

    run: Run

    def read(self, kind: type[AnyResult], what: str, **names: str) -> AnyResult:
        """A result file. Raises `NotTested`, saying that there are no `what`, where the run lacks it."""
        if not kind.exists(self.run, **names):
            raise NotTested(f"no {what}")
        return kind.read(self.run, **names)

    @cached_property
    def significance(self) -> SignificanceResult:
        return SignificanceResult.read(self.run)

    @property
    def margin(self) -> float:
        return self.run.profile.significance.equivalence_margin

    @property
    def alpha(self) -> float:
        return self.run.profile.significance.alpha

    @property
    def tasks(self) -> list[str]:
        return list(self.run.profile.finetuning.tasks)

    def differences(self, a: str, b: str, tasks: list[str]) -> dict[str, Difference]:
        """Task -> difference a - b, whichever way round `significance.json` holds it."""
        differences = {}
        for row in self.significance.comparisons:
            if {row.a, row.b} == {a, b} and row.task in tasks:
                difference = Difference(row.difference, *row.interval, row.p, row.standard_error, row.degrees)
                differences[row.task] = difference if row.a == a else turned(difference)
        return differences


def turned(difference: Difference) -> Difference:
    """b - a, of a - b."""
    return replace(difference, value=-difference.value, low=-difference.high, high=-difference.low)


def differences_on_paper(a: str, b: str) -> dict[str, Difference]:
    """Task -> difference a - b of the paper's table, for tasks whose test size is known."""
    differences = {}
    for task in published.TASKS:
        row = published.published_difference(a, b, task)
        if row and row.interval and row.standard_error:
            p = float(2 * stats.norm.sf(abs(row.value) / row.standard_error))
            differences[task] = Difference(row.value, *row.interval, p, row.standard_error, MANY)
    return differences


def decide_by_majority(findings: list[Finding], what: str, sample: str) -> Decision:
    """The verdict of most tasks; the headline is the mean difference. what: what is asked of each task."""
    counts = {o: sum(f.outcome == o for f in findings) for o in ("supported", "contradicted", "undecided")}
    reason = (
        f"{what}: yes on {counts['supported']}, no on {counts['contradicted']}, undecided on "
        f"{counts['undecided']} of {len(findings)} tasks"
    )
    return decision(majority(findings), reason, sample, findings, _mean(findings))


def decision(
    ruling: tuple[Verdict, float], reason: str, sample: str, findings: list[Finding], headline: tuple[float, Interval]
) -> Decision:
    """A decision that says, where it is undecided, how many times the `sample` would decide it.

    ruling: of `verdicts.every` or `verdicts.majority`.
    """
    verdict, factor = ruling
    bounded = factor if verdict == "undecided" and factor != float("inf") else None
    if bounded:
        reason += f"; about {factor:.{1 if factor < 10 else 0}f} times the {sample} would decide it"
    elif verdict == "undecided":
        reason += "; no sample would decide it, as the difference lies on the margin"
    return Decision(verdict, reason, *headline, findings, bounded)


def _mean(findings: list[Finding]) -> tuple[float, Interval]:
    """Mean difference over tasks; tasks have test sets and fine-tuning of their own, so their errors add up."""
    value = float(np.mean([f.difference.value for f in findings]))
    error = sqrt(sum(f.difference.standard_error**2 for f in findings)) / len(findings)
    # Satterthwaite, as for each difference.
    weight = sum(f.difference.standard_error**4 / f.difference.degrees for f in findings)
    degrees = sum(f.difference.standard_error**2 for f in findings) ** 2 / weight if weight else MANY
    reach = float(stats.t.ppf(0.975, degrees)) * error
    return value, (value - reach, value + reach)


def headline(finding: Finding) -> tuple[float, Interval]:
    """The difference of one finding, with its interval."""
    return finding.difference.value, (finding.difference.low, finding.difference.high)
