"""Resampling, tests, their calibration, and the rules of verdicts; knows neither Dutch nor models."""
