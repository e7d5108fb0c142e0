"""Resampling, tests, their calibration, and the rules of verdicts; knows neither Dutch nor models."""

from dataclasses import dataclass
from typing import Literal

# They stand here, where a result file may have them at no cost.
Verdict = Literal["supported", "contradicted", "undecided", "not_tested"]


@dataclass(frozen=True)
class RejectionRate:
    """How often a test rejects on simulated data with a known difference, with its Clopper-Pearson 95 % interval.

    `replicates` and `spread_ratio` (standard deviation between models over that between seeds) are None where the data
    have no models to differ.
    """

    test: str
    data: str
    replicates: int | None
    spread_ratio: float | None
    offered: bool  # whether this companion uses it, or shows it as a shortcut
    difference: float
    rejected: float
    interval: tuple[float, float]
    simulations: int


@dataclass(frozen=True)
class CoverageRate:
    """How often a nominal 95 % interval holds the truth where examples come in clusters, with its own interval."""

    method: str  # resampling clusters, or examples as if they were independent
    offered: bool
    clusters: int
    per_cluster: int
    correlation: float  # within a cluster
    covered: float
    interval: tuple[float, float]
    simulations: int
