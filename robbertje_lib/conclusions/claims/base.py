"""What every claim shares: the setting it is judged in, the evidence of a run, and what its test comes to."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
from scipy import stats

from robbertje_lib.conclusions import published
from robbertje_lib.conclusions.gates import open_size, useful_somewhere
from robbertje_lib.corpus.arms import get_arm
from robbertje_lib.experiment.profile import Profile, SmallestDifferences
from robbertje_lib.experiment.results.base import Interval, ResultFile
from robbertje_lib.experiment.results.claims import ONE_RUN
from robbertje_lib.experiment.results.pseudo_perplexity import PSEUDO_PERPLEXITY
from robbertje_lib.experiment.results.significance import Gate, SignificanceResult
from robbertje_lib.experiment.run import Run
from robbertje_lib.statistics import Verdict
from robbertje_lib.statistics.significance import Difference
from robbertje_lib.statistics.verdicts import Finding, majority

MANY = 1e9  # degrees of freedom of a standard error that is as good as known
NO_STUDENTS = "the profile has no such pair of students in this setting"
SAMPLE = "test examples and replicates"
AnyResult = TypeVar("AnyResult", bound=ResultFile)


class NotTested(Exception):
    """Why a run cannot decide a claim."""


@dataclass(frozen=True)
class Setting:
    """One selection and recipe, and its students by (arm, role); a role is `distilbert` or `bort`."""

    name: str
    selection: str
    recipe: str
    students: Mapping[tuple[str, str], str]

    def arm(self, arm: str) -> str:
        """The larger student of an arm. Raises `NotTested` where there is none."""
        if (arm, "distilbert") not in self.students:
            raise NotTested(NO_STUDENTS)
        return self.students[arm, "distilbert"]


def settings_of(profile: Profile) -> list[Setting]:
    """Every (selection, recipe) of the profile's students, in their order. A shape is named `bort`, or else large.

    A second student in the place of one has a setting of its own. An arm that takes documents in order holds the same
    lines in `head` and `same_lines`, so that its student serves in both.
    """
    settings: dict[tuple[str, ...], dict[tuple[str, str], str]] = {}
    for name, student in profile.students.items():
        key: tuple[str, ...] = (student.selection, student.recipe)
        place = student.arm, "bort" if student.shape == "bort" else "distilbert"
        while place in settings.get(key, {}):
            key = (*key, name)
        settings.setdefault(key, {})[place] = name
    for (selection, *others), students in settings.items():
        if selection == "same_lines":
            for place, name in settings.get(("head", *others), {}).items():
                if get_arm(place[0]).sequential:
                    students.setdefault(place, name)
    return [Setting(", ".join(key), key[0], key[1], students) for key, students in settings.items()]


@dataclass(frozen=True)
class Decision:
    """What a claim's test came to on one body of evidence."""

    verdict: Verdict
    reason: str
    ours: float | None = None  # the headline number; its unit is the claim's
    interval: Interval | None = None
    findings: list[Finding] = field(default_factory=list)
    factor: float | None = None  # times the sample that would decide an undecided claim
    smallest: float | None = None  # the smallest difference of interest, in the unit of `ours`
    bounded: bool | None = None  # whether the difference lies within it; None where that is not the question
    notes: tuple[str, ...] = ()  # what narrows the scope

    def of_one_run(self) -> "Decision":
        """The same where a student was distilled once, and the claim is about distillations: it decides nothing."""
        if self.verdict == "not_tested":
            return self
        told = f"of these very weights the test says {self.verdict}: {self.reason}" if self.findings else self.reason
        reason = f"{ONE_RUN}, which says nothing of other distillations (2 replicates or more do); {told}"
        return replace(self, verdict="undecided", reason=reason, factor=None, bounded=None)


@dataclass(frozen=True)
class Narrowing:
    """What keeps a claim from a task, in words with a place for tasks and one for groups, and the groups at fault."""

    words: str
    task: str
    groups: tuple[str, ...]


def told_once(narrowings: Iterable[Narrowing]) -> tuple[str, ...]:
    """Each of them once: with all groups of a task, and all tasks of the same groups."""
    groups: dict[tuple[str, str], dict[str, None]] = {}
    for narrowing in narrowings:
        groups.setdefault((narrowing.words, narrowing.task), {}).update(dict.fromkeys(narrowing.groups))
    tasks: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (words, task), names in groups.items():
        tasks.setdefault((words, tuple(names)), []).append(task)
    return tuple(words.format(", ".join(of), ", ".join(names)) for (words, names), of in tasks.items())


@dataclass(frozen=True)
class OpenTasks:
    """Tasks to which training carried over, each with the most training examples at which it did; what narrows them."""

    sizes: dict[str, int]
    narrowings: tuple[Narrowing, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        return told_once(self.narrowings)


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
    def smallest(self) -> SmallestDifferences:
        return self.run.profile.significance.smallest

    @property
    def alpha(self) -> float:
        return self.run.profile.significance.alpha

    @property
    def tasks(self) -> list[str]:
        return list(self.run.profile.finetuning.tasks)

    def replicates(self, group: str) -> int:
        """How often a student was distilled; 1 for the teacher."""
        return len(self.run.profile.groups[group])

    def gate(self, task: str, train: int, group: str) -> Gate:
        """The gate of one group, in `significance.json`."""
        rows = self.significance.gates
        return next(row for row in rows if (row.task, row.train, row.group) == (task, train, group))

    def open_tasks(self, groups: Sequence[str], tasks: Sequence[str] | None = None) -> OpenTasks:
        """Those of `tasks` (all) to which training carried over in all groups. Raises `NotTested` where it is none."""
        found = self._passed(groups, self.tasks if tasks is None else tasks)
        if not found.sizes:
            raise NotTested("; ".join(found.notes))
        below = tuple(told for task, train in found.sizes.items() for told in self._below(task, train, groups))
        return OpenTasks(found.sizes, found.narrowings + below)

    def useful_tasks(self, groups: Sequence[str]) -> OpenTasks:
        """The tasks on which, besides, all groups are above the best baseline; there may be none."""
        found = self._passed(groups, self.tasks)
        below = {task: self._below(task, train, groups) for task, train in found.sizes.items()}
        sizes = {task: train for task, train in found.sizes.items() if not below[task]}
        return OpenTasks(sizes, found.narrowings + tuple(told for of_task in below.values() for told in of_task))

    def of_use(self, group: str) -> OpenTasks:
        """The tasks on which one group is of use where any task would do; there may be none."""
        found = self.useful_tasks([group])
        gates = [self.gate(task, train, group) for task, train in found.sizes.items()]
        kept = {gate.task for gate in useful_somewhere(gates, len(self.tasks), self.alpha)}
        told = "not beyond doubt above a baseline on {}: {}"
        doubtful = tuple(Narrowing(told, task, (group,)) for task in found.sizes if task not in kept)
        sizes = {task: train for task, train in found.sizes.items() if task in kept}
        return OpenTasks(sizes, found.narrowings + doubtful)

    def _passed(self, groups: Sequence[str], tasks: Sequence[str]) -> OpenTasks:
        sizes, shut = {}, []
        for task in tasks:
            train, why, names = open_size(self.significance.gates, task, groups, self.alpha)
            if train is not None:
                sizes[task] = train
                why = why and f"with more {why}"
            if why:
                at = "nothing carried over" if train is None else f"at {train:,} training examples"
                shut.append(Narrowing(f"{at}: {{}} ({why}: {{}})", task, tuple(names)))
        return OpenTasks(sizes, tuple(shut))

    def _below(self, task: str, train: int, groups: Sequence[str]) -> list[Narrowing]:
        """What of the groups is not above the best baseline."""
        weak: dict[str, list[str]] = {}
        for gate in (self.gate(task, train, group) for group in groups):
            if not gate.useful:
                weak.setdefault(gate.baseline, []).append(gate.group)
        return [Narrowing(f"below {baseline} on {{}}: {{}}", task, tuple(names)) for baseline, names in weak.items()]

    def above_unigram(self, groups: Sequence[str]) -> list[str]:
        """Those of the groups whose pseudo-perplexity is not below the unigram model's."""
        return [group for group in groups if not self.gate(PSEUDO_PERPLEXITY, 0, group).useful]

    def refuse_above_unigram(self, groups: Sequence[str]) -> None:
        """Raises `NotTested` where there is one of the groups in `above_unigram`."""
        if shut := self.above_unigram(groups):
            raise NotTested(f"pseudo-perplexity not below the unigram model's: {', '.join(shut)}")

    def differences(self, a: str, b: str, sizes: Mapping[str, int]) -> dict[str, Difference]:
        """Task -> difference a - b at so many training examples, whichever way round `significance.json` holds it.

        Raises `NotTested` where it does not.
        """
        differences = {}
        for row in self.significance.comparisons:
            if {row.a, row.b} == {a, b} and sizes.get(row.task) == row.train:
                difference = Difference(row.difference, *row.interval, row.p, row.standard_error, row.degrees)
                differences[row.task] = difference if row.a == a else turned(difference)
        if missing := [task for task in sizes if task not in differences]:
            raise NotTested(f"{a} and {b} are not compared on {', '.join(missing)}")
        return {task: differences[task] for task in sizes}


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


def decide_by_majority(
    findings: list[Finding],
    of: int,
    what: str,
    sample: str,
    smallest: float,
    notes: tuple[str, ...] = (),
    bounding: bool = True,
) -> Decision:
    """The verdict of most of `of` tasks; the headline is the mean difference. what: what is asked of each task.

    A task without a finding shows nothing either way.
    """
    counts = {o: sum(f.outcome == o for f in findings) for o in ("supported", "contradicted", "undecided")}
    reason = (
        f"{what}: yes on {counts['supported']}, no on {counts['contradicted']}, undecided on "
        f"{counts['undecided']}{f', not tested on {of - len(findings)}' if of > len(findings) else ''} of {of} "
        f"task{'s' * (of > 1)}"
    )
    decided = decision(majority(findings, of), reason, sample, findings, _mean(findings), smallest, notes, bounding)
    return replace(decided, bounded=False) if decided.bounded and of > len(findings) else decided


def decision(
    ruling: tuple[Verdict, float],
    reason: str,
    sample: str,
    findings: list[Finding],
    headline: tuple[float, Interval],
    smallest: float,
    notes: tuple[str, ...] = (),
    bounding: bool = True,
    left_out: Sequence[str] = (),
) -> Decision:
    """A decision that says, where it is undecided, how many times the `sample` would decide it.

    ruling: of `verdicts.every` or `verdicts.majority`. bounding: whether differences that all lie within the smallest
    one of interest leave nothing to ask. left_out: of what the claim names, what could not be judged; the rest may make
    the claim fall, but not stand.
    """
    verdict, factor = ruling
    bounded = all(finding.bounded for finding in findings) and not left_out if bounding else None
    if left_out:
        standing: Verdict = "contradicted" if verdict == "contradicted" else "undecided"
        reason += f"; left out: {', '.join(left_out)}"
        return Decision(standing, reason, *headline, findings, None, smallest, bounded, notes)
    if verdict != "undecided" or bounded:
        return Decision(verdict, reason, *headline, findings, None, smallest, bounded, notes)
    larger = 1 < factor < float("inf")
    if larger:
        reason += f"; about {factor:.{1 if factor < 10 else 0}f} times the {sample} would decide it"
    else:
        reason += "; no larger sample would decide it"
    return Decision(verdict, reason, *headline, findings, factor if larger else None, smallest, bounded, notes)


def _mean(findings: list[Finding]) -> tuple[float, Interval]:
    """Mean difference over tasks. They share the distillations, so that their errors may go together: the widest."""
    value = float(np.mean([f.difference.value for f in findings]))
    error = float(np.mean([f.difference.standard_error for f in findings]))
    reach = float(stats.t.ppf(0.975, min(f.difference.degrees for f in findings))) * error
    return value, (value - reach, value + reach)


def headline(finding: Finding) -> tuple[float, Interval]:
    """The difference of one finding, with its interval."""
    return finding.difference.value, (finding.difference.low, finding.difference.high)
