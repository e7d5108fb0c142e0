"""How much sooner does one recipe reach what the published recipe ends with?

Two students of the same arm, selection and shape differ in their recipe alone. Both are watched on the same held-out
lines (`held_out.HeldOut`); the clock stands still while they are evaluated.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from robbertje_lib.experiment.profile import Profile
from robbertje_lib.experiment.results.training import DistillationResult, HeldOutPoint
from robbertje_lib.experiment.run import Run

PUBLISHED = "as_published"


@dataclass(frozen=True)
class RecipeComparison:
    """Where the published recipe's student ends, and when that of another recipe is there; seconds of training alone.

    `reached` is the other student's first held-out point at or below the published student's last pseudo-perplexity,
    so its time is an upper bound; None if there is no such point.
    """

    published: str
    other: str
    curves: dict[str, list[HeldOutPoint]]  # of both
    end: HeldOutPoint  # of the published one
    reached: HeldOutPoint | None

    @property
    def share(self) -> float | None:
        """Of the published student's training time, what the other one needs."""
        return None if self.reached is None else self.reached.training_seconds / self.end.training_seconds


def recipe_pairs(profile: Profile) -> list[tuple[str, str]]:
    """(student of the published recipe, student of another recipe), alike in all else; both distilled here."""
    students = {name: profile.students[name] for name in profile.trained}
    return [
        (published, other)
        for published, a in students.items()
        for other, b in students.items()
        if a.recipe == PUBLISHED != b.recipe and (a.arm, a.selection, a.shape) == (b.arm, b.selection, b.shape)
    ]


def compare_recipes(run: Run) -> list[RecipeComparison]:
    """One row a pair whose results exist."""
    there = [name for name in run.profile.trained if DistillationResult.exists(run, student=name)]
    return compare_students(run.profile, {name: DistillationResult.read(run, student=name) for name in there})


def compare_students(profile: Profile, students: Mapping[str, DistillationResult]) -> list[RecipeComparison]:
    """One row a pair of the profile that is among `students`, by name."""
    rows = []
    for published, other in recipe_pairs(profile):
        if not {published, other} <= set(students):
            continue
        curves = {name: students[name].held_out_curve for name in (published, other)}
        end = curves[published][-1]
        reached = next((p for p in curves[other] if p.pseudo_perplexity <= end.pseudo_perplexity), None)
        rows.append(RecipeComparison(published, other, curves, end, reached))
    return rows
