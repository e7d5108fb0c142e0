"""Resampling, tests, their calibration, and the rules of verdicts; knows neither Dutch nor models."""

from typing import Literal

Verdict = Literal["supported", "contradicted", "undecided", "not_tested"]  # here, where a record may have it at no cost
