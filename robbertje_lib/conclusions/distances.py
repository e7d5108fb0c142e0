"""Student minus teacher in each cell of the paper's main table: the paper's distance, and that of a run."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import log

import numpy as np

from robbertje_lib.conclusions import published
from robbertje_lib.conclusions.published import Agreement, PublishedDifference, published_difference
from robbertje_lib.experiment.profile import Profile
from robbertje_lib.experiment.results.base import Interval
from robbertje_lib.experiment.results.pseudo_perplexity import PSEUDO_PERPLEXITY, PseudoPerplexityResult
from robbertje_lib.experiment.results.significance import SignificanceResult


@dataclass(frozen=True)
class Distance:
    """One cell, student minus teacher: scores 0 to 1; logarithms of pseudo-perplexities, counted as the paper does."""

    task: str
    student: str
    paper: PublishedDifference
    value: float
    interval: Interval | None  # None for pseudo-perplexity

    @property
    def agreement(self) -> Agreement:
        return published.agreement(self.interval, self.paper.interval) if self.interval else "undecided"


def distances_to_teacher(
    profile: Profile, significance: SignificanceResult, perplexity: PseudoPerplexityResult
) -> Iterator[Distance]:
    """Column by column, for the students that the paper has; scores at the largest training size of each task.

    Of pseudo-perplexity the mean over a student's replicates.
    """
    compared = {
        (row.task, row.a): row
        for row in significance.comparisons
        if row.family == "students_vs_teacher" and row.train == significance.largest.get(row.task)
    }
    for task in published.TITLES:
        for student in profile.students:
            paper = published_difference(student, "teacher", task)
            if paper is None:
                continue
            if task == PSEUDO_PERPLEXITY:
                teacher = perplexity.models["teacher"].as_published
                ratios = [perplexity.models[model].as_published / teacher for model in profile.groups[student]]
                yield Distance(task, student, paper, float(np.mean([log(ratio) for ratio in ratios])), None)
            elif row := compared.get((task, student)):
                yield Distance(task, student, paper, row.difference, row.interval)
