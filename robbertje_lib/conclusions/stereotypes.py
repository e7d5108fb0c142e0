"""How far a model's pronouns follow the profession, and whether students do less of it than their teacher.

A stereotype ties a pronoun to a profession: a slope on associated gender, or a spread over professions. A preference
for one pronoun whatever the profession is a level: no measure here sees it. All are functions of counts summed over
professions (base forms, mean over templates), so that professions are redrawn as test examples are elsewhere. Above
them the replicates of a student are what chance makes anew; what is there once, as the teacher, is a given set of
weights. A model that has learnt little also shows little, so the claims ask for pseudo-perplexity first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.results.gender_bias import BiasComparison, Stereotype
from robbertje_lib.statistics.resampling import Metric, Sums
from robbertje_lib.statistics.significance import Resampled, difference_of, interval_of, resample


def slope(sums: Sums) -> NDArray[np.floating]:
    """Least-squares slope of y on x from sums of (1, x, y, x², xy, y²), 0 where x is constant; (..., 6) -> (...)."""
    n, x, y, xx, xy, _ = np.moveaxis(sums, -1, 0)
    varied = n * xx - x**2
    flat = varied <= 1e-9 * n * xx  # all draws may be of one gender
    return np.where(flat, 0.0, (n * xy - x * y) / np.where(flat, 1.0, varied))


def spread(sums: Sums) -> NDArray[np.floating]:
    """Standard deviation of y from the same sums; (..., 6) -> (...)."""
    n, _, y, _, _, yy = np.moveaxis(sums, -1, 0)
    return np.sqrt(np.maximum(0.0, yy / n - (y / n) ** 2))


@dataclass(frozen=True)
class Measure:
    """A column of the readings, turned by `sign` so that it is positive for *hij*, and what is made of it."""

    reading: str
    metric: Metric
    sign: int = 1


MEASURES = {
    "log_odds_slope": Measure("log_odds", slope),
    "rank_slope": Measure("rank_difference", slope, sign=-1),
    "lpbs_spread": Measure("lpbs", spread),
}


def compare_stereotypes(
    groups: Mapping[str, Sequence[pd.DataFrame]], resamples: int, rng: np.random.Generator, level: float = 0.95
) -> tuple[list[Stereotype], list[BiasComparison]]:
    """Every measure of every group, and of the first group (the teacher) minus each other one.

    groups: group -> for each of its models one row a profession, with the readings and `associated_gender`. A slope is
    compared by its amount, so that a stereotype turned round is as much of one. Measures of slope are left out where
    fewer than three professions have an associated gender or all have the same. Raises `UserError` where models were
    probed on other professions.
    """
    teacher, *students = groups
    first = groups[teacher][0]
    for name, models in groups.items():
        if not all(model.index.equals(first.index) for model in models):
            raise UserError(f"{name} and {teacher} were probed on other professions; run notebook 60_gender_bias again")
    stereotypes, comparisons = [], []
    for name, measure in MEASURES.items():
        gender = first["associated_gender"]
        known = gender.notna() | (measure.metric is not slope)
        if measure.metric is slope and (known.sum() < 3 or np.ptp(gender[known]) == 0):
            continue
        counts = [_counts(models, measure, known.to_numpy()) for models in groups.values()]
        drawn = dict(zip(groups, resample(counts, measure.metric, resamples, rng), strict=True))
        stereotypes += [_stereotype(group, name, own, rng, level) for group, own in drawn.items()]
        amounts = {group: _amount(own) for group, own in drawn.items()}
        comparisons += [_comparison(s, name, amounts[teacher], amounts[s], rng, level) for s in students]
    return stereotypes, comparisons


def _counts(models: Sequence[pd.DataFrame], measure: Measure, known: NDArray[np.bool_]) -> NDArray[np.floating]:
    """(models, professions, 6): what `slope` and `spread` sum, centred, which changes neither and keeps digits."""
    y = measure.sign * np.stack([model[measure.reading].to_numpy(float)[known] for model in models])
    y -= y.mean(axis=1, keepdims=True)
    x = models[0]["associated_gender"].fillna(0.0).to_numpy(float)[known]
    x = np.broadcast_to(x - x.mean(), y.shape)
    return np.stack([np.ones_like(y), x, y, x**2, x * y, y**2], axis=-1)


def _amount(own: Resampled) -> Resampled:
    """The same, each model turned so that its measure is positive; its draws are turned with it, and not folded."""
    return replace(own, scores=np.abs(own.scores), drawn=own.drawn * np.where(own.scores < 0, -1.0, 1.0))


def _stereotype(group: str, measure: str, own: Resampled, rng: np.random.Generator, level: float) -> Stereotype:
    told = interval_of(own, rng, level)
    return Stereotype(
        group=group,
        measure=measure,
        value=told.value,
        interval=(told.low, told.high),
        p=told.p,
        replicates=own.scores.tolist(),
        professions=own.examples,
    )


def _comparison(
    student: str, measure: str, teacher: Resampled, own: Resampled, rng: np.random.Generator, level: float
) -> BiasComparison:
    difference = difference_of(teacher, own, rng, level)
    whole, part = float(teacher.scores.mean()), float(own.scores.mean())
    unit = whole or 1.0  # nothing has no shares
    # To first order S / T varies as S does, less S / T times what T does, in units of T.
    in_step = Resampled(teacher.scores * part / unit, teacher.drawn * part / unit, teacher.examples)
    around = difference_of(in_step, own, rng, level)
    share, reach = difference.value / unit, (around.high - around.low) / 2 / unit
    return BiasComparison(
        student=student,
        measure=measure,
        teacher_value=whole,
        student_value=part,
        difference=difference.value,
        interval=(difference.low, difference.high),
        p=difference.p,
        standard_error=difference.standard_error,
        degrees=difference.degrees,
        share=share,
        share_interval=(share - reach, share + reach),
        share_error=around.standard_error / unit,
        share_degrees=around.degrees,
        replicates=len(own.scores),
        professions=own.examples,
    )
