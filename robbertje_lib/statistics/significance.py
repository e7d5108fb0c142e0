"""Tests of a difference between two models, on the same test examples.

Which test for what follows Dror et al. (2018): exact McNemar for paired accuracy, approximate randomisation
(Yeh 2000) for F1 and every other metric, a paired bootstrap for intervals, Holm (1979) over a named family
(Dror et al. 2017). With several fine-tuning seeds a difference must also hold for seeds that were not run
(Reimers and Gurevych 2017): `hierarchical_bootstrap` draws seeds as well as examples. `calibration` measures
the error rates of every test offered here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special
from statsmodels.stats.proportion import proportion_effectsize

from robbertje_lib.statistics.resampling import (
    Counts,
    Metric,
    bootstrapped_scores,
    by_seed,
    permuted_differences,
    scores_by_seed,
)


@dataclass(frozen=True)
class Difference:
    """A difference a - b with its uncertainty, in the metric's own unit."""

    value: float
    low: float  # confidence interval
    high: float
    p: float  # two-sided, of no difference
    standard_error: float
    degrees: float  # of freedom of the standard error


def mcnemar_exact(correct_a: ArrayLike, correct_b: ArrayLike) -> float:
    """Two-sided exact McNemar p of equal accuracy, from per-example correctness, each (examples,) bool.

    Only examples on which exactly one model is right count: under no difference they fall either way like a
    fair coin. Raises ValueError if the two differ in length. Source: McNemar (1947), in its binomial form.
    """
    a, b = np.asarray(correct_a, bool), np.asarray(correct_b, bool)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"paired correctness has shapes {a.shape} and {b.shape}; two equal rows are needed")
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    # The sum of the lower tail, doubled: what scipy.stats.binomtest gives at 0.5, at a hundredth of its time.
    return min(1.0, 2 * float(special.bdtr(min(only_a, only_b), only_a + only_b, 0.5)))


def permutation_test(
    counts_a: Counts, counts_b: Counts, metric: Metric, permutations: int, rng: np.random.Generator
) -> float:
    """Two-sided p of exchangeable systems by approximate randomisation, p = (r + 1) / (R + 1).

    counts_a, counts_b: (examples, k) or (seeds, examples, k), what `metric` sums; an example is the unit that
    is swapped, so sentences for entity F1. Never returns 0. Source: Yeh (2000), section 3.
    """
    observed = abs(scores_by_seed(counts_a, metric).mean() - scores_by_seed(counts_b, metric).mean())
    permuted = np.abs(permuted_differences(counts_a, counts_b, metric, permutations, rng))
    # A permutation that equals the observed split may differ from it in the last bit.
    return float((np.count_nonzero(permuted >= observed - 1e-12) + 1) / (permutations + 1))


@dataclass(frozen=True)
class Resampled:
    """The scores of one model, and those on redrawn test examples."""

    scores: NDArray[np.floating]  # (seeds,)
    drawn: NDArray[np.floating]  # (resamples, seeds)
    examples: int


def resample(models: Sequence[Counts], metric: Metric, resamples: int, rng: np.random.Generator) -> list[Resampled]:
    """Every model scored on the same draws of test examples with replacement, so that any two of them are paired."""
    counts = [by_seed(model) for model in models]
    drawn = bootstrapped_scores(np.concatenate(counts), metric, resamples, rng)
    ends = np.cumsum([len(own) for own in counts])[:-1]
    parts = zip(counts, np.split(drawn, ends, axis=1), strict=True)
    return [Resampled(scores_by_seed(own, metric), part, own.shape[1]) for own, part in parts]


def paired_bootstrap(
    counts_a: Counts, counts_b: Counts, metric: Metric, resamples: int, rng: np.random.Generator
) -> Difference:
    """Percentile interval of a - b over test examples drawn with replacement, the same draw for both.

    p re-centres the replicates on no difference (Berg-Kirkpatrick et al. 2012), p = (r + 1) / (R + 1). Seeds,
    where there are several, are averaged and taken as fixed.
    """
    a, b = resample([counts_a, counts_b], metric, resamples, rng)
    return bootstrap_difference(a, b)


def bootstrap_difference(a: Resampled, b: Resampled, level: float = 0.95) -> Difference:
    """`paired_bootstrap` from replicates already drawn."""
    value = a.scores.mean() - b.scores.mean()
    drawn = a.drawn.mean(axis=1) - b.drawn.mean(axis=1)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    beyond = np.count_nonzero(np.abs(drawn - value) >= abs(value) - 1e-12)
    p = (beyond + 1) / (len(drawn) + 1)
    return Difference(float(value), float(low), float(high), float(p), float(drawn.std(ddof=1)), float(a.examples - 1))


def hierarchical_bootstrap(
    counts_a: Counts, counts_b: Counts, metric: Metric, resamples: int, rng: np.random.Generator
) -> Difference:
    """Interval and p of a - b for other test examples and other seeds: both are drawn with replacement.

    counts_a: (seeds_a, examples, k), counts_b: (seeds_b, examples, k), at least two seeds each (ValueError).
    See `hierarchical_difference`.
    """
    a, b = resample([counts_a, counts_b], metric, resamples, rng)
    return hierarchical_difference(a, b, rng)


def hierarchical_difference(a: Resampled, b: Resampled, rng: np.random.Generator, level: float = 0.95) -> Difference:
    """`hierarchical_bootstrap` from replicates of the examples already drawn.

    With a handful of seeds a plain bootstrap of seeds is far too narrow: S seeds redrawn S at a time understate
    the variance by (S-1)/S, and its few values are no normal distribution. So S-1 seeds are drawn (Rao and Wu
    1988), and the interval is a t interval whose degrees of freedom weigh seeds and examples by their shares of
    the variance (Satterthwaite 1946). What a seed happens to get right on this test set counts three times in such
    draws (Owen 2007): between seeds, among examples, and in both together; it is taken out twice.
    """
    seeds = len(a.scores), len(b.scores)
    if min(seeds) < 2:
        raise ValueError(f"the models have {seeds[0]} and {seeds[1]} seeds; two or more each are needed")
    value = a.scores.mean() - b.scores.mean()
    drawn = _mean_of_drawn_seeds(a.drawn, rng) - _mean_of_drawn_seeds(b.drawn, rng)
    repeated = 2 * (_seed_by_example(a.drawn) + _seed_by_example(b.drawn))
    of_seeds = [a.scores.var(ddof=1) / seeds[0], b.scores.var(ddof=1) / seeds[1]]
    variance = max(drawn.var(ddof=1) - repeated, sum(of_seeds))
    parts = [*of_seeds, variance - sum(of_seeds)]
    freedoms = [seeds[0] - 1, seeds[1] - 1, a.examples - 1]
    weight = sum(part**2 / freedom for part, freedom in zip(parts, freedoms, strict=True))
    degrees = float(variance**2 / weight) if weight else float(a.examples - 1)
    error = float(np.sqrt(variance))
    reach = float(special.stdtrit(degrees, (1 + level) / 2)) * error
    p = 2 * _t_tail(abs(value), error, degrees)
    return Difference(float(value), float(value - reach), float(value + reach), p, error, degrees)


def _seed_by_example(replicates: NDArray[np.floating]) -> float:
    """Variance of the seeds' mean that stems from what single seeds get right: (resamples, seeds) replicates."""
    seeds = replicates.shape[1]
    own = replicates - replicates.mean(axis=1, keepdims=True)
    return float(own.var(axis=0, ddof=1).mean()) / (seeds - 1)


def _mean_of_drawn_seeds(replicates: NDArray[np.floating], rng: np.random.Generator) -> NDArray[np.floating]:
    rows, seeds = replicates.shape
    drawn = rng.integers(seeds, size=(rows, seeds - 1))
    return np.take_along_axis(replicates, drawn, axis=1).mean(axis=1)


def _t_tail(excess: float, standard_error: float, degrees: float) -> float:
    """P(T > excess / standard_error); models that never differ have no error and no excess."""
    if standard_error == 0:
        return 0.5 if excess == 0 else float(excess < 0)
    return float(special.stdtr(degrees, -excess / standard_error))


def equivalence_test(difference: Difference, margin: float) -> float:
    """p of the hypothesis that the two models differ by `margin` or more; small means alike.

    Two one-sided t tests (Schuirmann 1987) with the bootstrap's standard error; at level alpha this says that
    the 1 - 2 alpha interval lies within the margin. Failing to find a difference is no such evidence.
    """
    return max(
        _t_tail(margin - difference.value, difference.standard_error, difference.degrees),
        _t_tail(margin + difference.value, difference.standard_error, difference.degrees),
    )


def holm(p_values: ArrayLike) -> NDArray[np.floating]:
    """Holm's step-down adjusted p values of one family, in the order given. An empty family stays empty."""
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    # Not statsmodels.multipletests, which agrees, but collects garbage at every call: 0.2 s.
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)) if len(values) else values
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def effect_size(score_a: float, score_b: float) -> float:
    """Cohen's h of two scores in 0..1: by convention 0.2 is small, 0.5 medium, 0.8 large."""
    return float(proportion_effectsize(score_a, score_b))


def detectable_difference(difference: Difference, alpha: float = 0.05, power: float = 0.8) -> float:
    """The smallest true difference that a test of this standard error finds with probability `power`."""
    return float(special.stdtrit(difference.degrees, [1 - alpha / 2, power]).sum() * difference.standard_error)


def sample_factor(difference: Difference, target: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """How many times the examples and seeds are needed to find a true difference of `target`; at least 1.

    A standard error falls with the root of the sample, whether it comes from examples or from seeds.
    """
    if target == 0:
        return float("inf")
    return max(1.0, (detectable_difference(difference, alpha, power) / abs(target)) ** 2)
