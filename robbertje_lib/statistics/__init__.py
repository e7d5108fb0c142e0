"""Resampling, tests, their calibration, and the rules of verdicts; knows neither Dutch nor models."""

from dataclasses import dataclass
from typing import Literal

# Both stand here, where a result file may have them at no cost.
Verdict = Literal["supported", "contradicted", "undecided", "not_tested"]


@dataclass(frozen=True)
class RejectionRate:
    """How often a test rejects on simulated data with a known difference, with its Clopper-Pearson 95 % interval."""

    test: str
    data: str
    offered: bool  # whether this companion uses it, or shows it as a shortcut
    difference: float
    rejected: float
    interval: tuple[float, float]
    simulations: int
