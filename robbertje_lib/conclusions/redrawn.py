"""Every group of a task scored on the same redrawn test examples, from which the interval of every pair follows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robbertje_lib.conclusions.counts import TaskCounts
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.statistics.resampling import clustered
from robbertje_lib.statistics.significance import Difference, Resampled, difference_of, interval_of, resample


@dataclass(frozen=True)
class Redrawn:
    """The counts of a task, summed in clusters, and the scores of all groups on clusters drawn with replacement."""

    data: TaskCounts
    by_cluster: dict[str, NDArray[np.floating]]  # group -> (units, seeds, clusters, k)
    groups: dict[str, Resampled]

    @classmethod
    def draw(cls, data: TaskCounts, resamples: int, rng: np.random.Generator) -> "Redrawn":
        """Raises `UserError` where all test examples are of one cluster, which says nothing of others."""
        if len(np.unique(data.clusters)) < 2:
            raise UserError(
                f"{data.task}, {data.test_set}: all {data.examples} examples come from one document; test on more text"
            )
        by_cluster = {group: clustered(counts, data.clusters) for group, counts in data.counts.items()}
        drawn = resample(list(by_cluster.values()), data.metric, resamples, rng)
        return cls(data, by_cluster, dict(zip(by_cluster, drawn, strict=True)))

    @property
    def clusters(self) -> int:
        return next(iter(self.groups.values())).examples

    def difference(self, a: str, b: str, rng: np.random.Generator, level: float) -> Difference:
        """a - b over the units of each that has several, and over clusters of examples."""
        return difference_of(self.groups[a], self.groups[b], rng, level)

    def interval(self, group: str, rng: np.random.Generator, level: float) -> Difference:
        """The score of one group, as its difference from a constant 0."""
        return interval_of(self.groups[group], rng, level)
