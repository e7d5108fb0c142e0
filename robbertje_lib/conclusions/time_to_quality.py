"""How much sooner does one recipe reach what the published recipe ends with?

Two students of the same arm, selection and shape differ in their recipe alone. All their replicates are watched on the
same held-out lines (`held_out.HeldOut`); the clock stands still while they are evaluated.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, geometric_mean

from robbertje_lib.experiment.profile import Profile
from robbertje_lib.experiment.results.training import DistillationResult, HeldOutPoint
from robbertje_lib.experiment.run import Run

PUBLISHED = "as_published"


@dataclass(frozen=True)
class RecipeComparison:
    """Where the published recipe's student ends, and when that of another recipe is there; seconds of training alone.

    `target` is the geometric mean of the pseudo-perplexities that the published student's replicates end with, after
    `published_seconds` in the mean. `reached` has for each replicate of the other student its first held-out point at
    or below `target`, so that its time is an upper bound; None where there is no such point.
    """

    published: str
    other: str
    curves: dict[str, list[list[HeldOutPoint]]]  # student -> a curve for each of its replicates
    target: float
    published_seconds: float
    reached: list[HeldOutPoint | None]

    @property
    def seconds(self) -> float | None:
        """Mean time of the other student's replicates to `target`; None unless all get there."""
        there = [point.training_seconds for point in self.reached if point is not None]
        return fmean(there) if len(there) == len(self.reached) else None

    @property
    def share(self) -> float | None:
        """Of the published student's training time, what the other one needs."""
        return None if self.seconds is None else self.seconds / self.published_seconds


def recipe_pairs(profile: Profile) -> list[tuple[str, str]]:
    """(student of the published recipe, student of another recipe), alike in all else; both distilled here."""
    students = {name: student for name, student in profile.students.items() if not student.released}
    return [
        (published, other)
        for published, a in students.items()
        for other, b in students.items()
        if a.recipe == PUBLISHED != b.recipe and (a.arm, a.selection, a.shape) == (b.arm, b.selection, b.shape)
    ]


def compare_recipes(run: Run) -> list[RecipeComparison]:
    """One row a pair of students whose results exist."""
    there = [name for name in run.profile.trained if DistillationResult.exists(run, student=name)]
    return compare_students(run.profile, {name: DistillationResult.read(run, student=name) for name in there})


def compare_students(profile: Profile, models: Mapping[str, DistillationResult]) -> list[RecipeComparison]:
    """One row a pair of the profile that has all its replicates among `models`, by name."""
    rows = []
    for pair in recipe_pairs(profile):
        replicates = {student: profile.replicates_of(student) for student in pair}
        if not {model for of_student in replicates.values() for model in of_student} <= set(models):
            continue
        curves = {
            student: [models[model].held_out_curve for model in of_student]
            for student, of_student in replicates.items()
        }
        published, other = pair
        ends = [curve[-1] for curve in curves[published]]
        target = geometric_mean(end.pseudo_perplexity for end in ends)
        reached = [next((p for p in curve if p.pseudo_perplexity <= target), None) for curve in curves[other]]
        seconds = fmean(end.training_seconds for end in ends)
        rows.append(RecipeComparison(published, other, curves, target, seconds, reached))
    return rows
