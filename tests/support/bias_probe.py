"""Readings of professions by models whose stereotype is known, for simulations of what the bias tests find."""

import numpy as np
import pandas as pd

PROFESSIONS = 40
NOISE = 0.4  # standard deviation of a model's reading of one profession, in log odds
TEACHER = 2.0  # slope


class Probe:
    """Professions as they are, and models that read them with a slope, a level and noise of their own."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.gender = rng.permutation(np.linspace(-1, 1, PROFESSIONS))
        self.wording = rng.normal(0, 0.3, PROFESSIONS)  # what all models make of a profession
        self.reading_noise = NOISE / float(np.sqrt((self.gender**2).sum()))  # of a slope

    def model(self, slope: float, level: float = 0.0, noise: float = NOISE) -> pd.DataFrame:
        log_odds = slope * (self.gender + self.wording) + noise * self.rng.normal(size=PROFESSIONS)
        apart = 0.3 * noise * self.rng.normal(size=(2, PROFESSIONS))  # in which the measures differ
        return pd.DataFrame(
            {
                "associated_gender": self.gender,
                "log_odds": log_odds + level,
                "rank_difference": -20 * (log_odds + level + apart[0]),
                "lpbs": log_odds + apart[1],
            }
        )

    def student(self, slope: float, replicates: int, spread: float = 1.0) -> list[pd.DataFrame]:
        """Replicates whose slopes differ by `spread` times the noise of reading one."""
        slopes = slope + spread * self.reading_noise * self.rng.normal(size=replicates)
        return [self.model(own, self.rng.normal(0, 0.5)) for own in slopes]
