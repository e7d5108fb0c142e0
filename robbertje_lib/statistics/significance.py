"""Tests of a difference between two models, on the same test examples.

Which test for what follows Dror et al. (2018): exact McNemar for paired accuracy, approximate randomisation
(Yeh 2000) for F1 and every other metric, Holm (1979) over a named family (Dror et al. 2017). What chance made must
hold for what it would make again (Reimers and Gurevych 2017): `difference_of` takes the distillations of a student, or
the fine-tuning seeds of what is there once, as units of one model of the variance, above the test examples.
`calibration` measures the error rates of every test offered here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special
from statsmodels.stats.proportion import proportion_effectsize

from robbertje_lib.statistics.resampling import (
    Counts,
    Metric,
    bootstrapped_scores,
    by_unit,
    permuted_differences,
    scores_by_unit,
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

    counts_a, counts_b: of equal shape, what `metric` sums; an example, or a cluster of them (`resampling.clustered`),
    is what is swapped, so sentences or documents for entity F1. Never returns 0. Source: Yeh (2000), section 3.
    """
    observed = abs(scores_by_unit(counts_a, metric).mean() - scores_by_unit(counts_b, metric).mean())
    permuted = np.abs(permuted_differences(counts_a, counts_b, metric, permutations, rng))
    # A permutation that equals the observed split may differ from it in the last bit.
    return float((np.count_nonzero(permuted >= observed - 1e-12) + 1) / (permutations + 1))


@dataclass(frozen=True)
class Resampled:
    """The scores of one group of models, and those on redrawn test examples."""

    scores: NDArray[np.floating]  # (units,)
    drawn: NDArray[np.floating]  # (resamples, units)
    examples: int  # or clusters of them: what was redrawn


def resample(models: Sequence[Counts], metric: Metric, resamples: int, rng: np.random.Generator) -> list[Resampled]:
    """Every group scored on the same draws of test examples with replacement, so that any two of them are paired.

    models: counts of each group, (examples, k), (units, examples, k) or (units, seeds, examples, k), of the same
    examples, or the same clusters of them.
    """
    counts = [by_unit(own) for own in models]
    drawn = bootstrapped_scores(
        np.concatenate([own.reshape(-1, *own.shape[2:]) for own in counts]), metric, resamples, rng
    )
    ends = np.cumsum([own.shape[0] * own.shape[1] for own in counts])[:-1]
    return [
        Resampled(scores_by_unit(own, metric), part.reshape(resamples, *own.shape[:2]).mean(axis=2), own.shape[2])
        for own, part in zip(counts, np.split(drawn, ends, axis=1), strict=True)
    ]


def paired_bootstrap(
    counts_a: Counts, counts_b: Counts, metric: Metric, resamples: int, rng: np.random.Generator
) -> Difference:
    """`difference_of` two groups from their counts, on test examples drawn with replacement, the same draw for both."""
    a, b = resample([counts_a, counts_b], metric, resamples, rng)
    return difference_of(a, b, rng)


def difference_of(a: Resampled, b: Resampled, rng: np.random.Generator, level: float = 0.95) -> Difference:
    """a - b with interval and p, for other test examples, and for other units of a side that has two or more.

    A side of one unit is a given set of weights: nothing is said of what chance would make of it again. With a handful
    of units a plain bootstrap of them is far too narrow: U units redrawn U at a time understate the variance by
    (U-1)/U, and their few values are no normal distribution. So U-1 are drawn (Rao and Wu 1988), and the interval is a
    t interval. What a unit happens to get right on this test set counts three times in such draws (Owen 2007): between
    units, among examples, and in both together; it is taken out twice. Raises ValueError where the two were not scored
    on the same draws, or there is one example.
    """
    if (a.examples, len(a.drawn)) != (b.examples, len(b.drawn)) or a.examples < 2:
        raise ValueError(f"{a.examples} and {b.examples} examples; the same two or more are needed, drawn as often")
    drawn = _mean_of_drawn_units(a.drawn, rng) - _mean_of_drawn_units(b.drawn, rng)
    sides = [side for side in (a, b) if len(side.scores) > 1]
    parts = [float(side.scores.var(ddof=1)) / len(side.scores) for side in sides]
    repeated = 2 * sum(_unit_by_example(side.drawn) for side in sides)
    freedoms = [len(side.scores) - 1 for side in sides] + [a.examples - 1]
    # Examples redrawn n at a time understate their variance too, which tells with a few clusters.
    of_examples = max(0.0, float(drawn.var(ddof=1)) - repeated - sum(parts)) * a.examples / (a.examples - 1)
    return _t_difference(float(a.scores.mean() - b.scores.mean()), [*parts, of_examples], freedoms, level)


def interval_of(a: Resampled, rng: np.random.Generator, level: float = 0.95) -> Difference:
    """The score of one group with its interval: its difference from a constant 0."""
    return difference_of(a, Resampled(np.zeros(1), np.zeros((len(a.drawn), 1)), a.examples), rng, level)


def welch_difference(a: Sequence[float], b: Sequence[float], level: float = 0.95) -> Difference:
    """a - b of two groups of runs with one number each, such as a log speed, whose variances may differ (Welch 1947).

    Raises ValueError where a group has fewer than two runs, as one says nothing of how much runs differ.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError(f"{len(a)} and {len(b)} runs; two or more each are needed")
    parts = [float(np.var(runs, ddof=1)) / len(runs) for runs in (a, b)]
    return _t_difference(float(np.mean(a) - np.mean(b)), parts, [len(a) - 1, len(b) - 1], level)


def _t_difference(value: float, parts: list[float], freedoms: list[int], level: float) -> Difference:
    """A difference whose variance is the sum of `parts`, each known to as many degrees of freedom.

    Those of the whole are as Satterthwaite (1946) has them, changed in two ways, as a handful of units shows his to be
    off either way. Squares of estimated variances are too large, which makes two groups of three keep .035 at .05:
    1 is added to each freedom and taken off the whole, half of Welch's (1949) correction. And a part known to few is
    often far too small, and its share with it, which tells against given weights (.078): for the shares a part counts
    (freedom + 5) / freedom times, and 15 times that of two units alone. Three units or more then keep .038 to .059
    whatever the shares, two units beside as many or given weights .02 to .06. Two units beside three err in up to .08
    of cases, so replicates should be equal.
    """
    few = 14 if len(parts) == 2 and freedoms[0] == 1 else 5
    error = float(np.sqrt(sum(parts)))
    shares = [part * (freedom + few) / freedom for part, freedom in zip(parts, freedoms, strict=True)]
    weight = sum(share**2 / (freedom + 1) for share, freedom in zip(shares, freedoms, strict=True))
    degrees = sum(shares) ** 2 / weight - 1 if weight else float(min(freedoms))
    reach = float(special.stdtrit(degrees, (1 + level) / 2)) * error
    p = 2 * _t_tail(abs(value), error, degrees)
    return Difference(value, value - reach, value + reach, p, error, degrees)


def _unit_by_example(drawn: NDArray[np.floating]) -> float:
    """Variance of the units' mean that stems from what single units get right; drawn: (resamples, units)."""
    own = drawn - drawn.mean(axis=1, keepdims=True)
    return float(own.var(axis=0, ddof=1).mean()) / (drawn.shape[1] - 1)


def _mean_of_drawn_units(drawn: NDArray[np.floating], rng: np.random.Generator) -> NDArray[np.floating]:
    rows, units = drawn.shape
    if units == 1:
        return drawn[:, 0]
    chosen = rng.integers(units, size=(rows, units - 1))
    return np.take_along_axis(drawn, chosen, axis=1).mean(axis=1)


def _t_tail(excess: float, standard_error: float, degrees: float) -> float:
    """P(T > excess / standard_error); models that never differ have no error and no excess."""
    if standard_error == 0:
        return 0.5 if excess == 0 else float(excess < 0)
    return float(special.stdtr(degrees, -excess / standard_error))


def above_test(difference: Difference, bound: float) -> float:
    """p of the hypothesis that a - b is `bound` or less, by the same t test; its complement is of `bound` or more."""
    return _t_tail(difference.value - bound, difference.standard_error, difference.degrees)


def equivalence_test(difference: Difference, margin: float) -> float:
    """p of the hypothesis that the two models differ by `margin` or more; small means alike.

    Two one-sided t tests (Schuirmann 1987); at level alpha this says that the 1 - 2 alpha interval lies within the
    margin. Failing to find a difference is no such evidence.
    """
    below = _t_tail(margin - difference.value, difference.standard_error, difference.degrees)
    return max(above_test(difference, -margin), below)


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
    """The smallest true difference that a two-sided test of this standard error finds with probability `power`."""
    return float(special.stdtrit(difference.degrees, [1 - alpha / 2, power]).sum() * difference.standard_error)


def sample_factor(difference: Difference, target: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """How many times the sample, at every level, is needed to find a true difference of `target`; at least 1.

    A standard error falls with the root of the sample, and its degrees of freedom grow with it.
    """

    def short(factor: float) -> float:
        larger = replace(difference, degrees=difference.degrees * factor)
        return detectable_difference(larger, alpha, power) / factor**0.5 - abs(target)

    if target == 0:
        return float("inf")
    most = (detectable_difference(difference, alpha, power) / abs(target)) ** 2
    return float(optimize.brentq(short, 1.0, most)) if most > 1 else 1.0
