"""How often each significance test cries wolf, and how often it finds what is there.

Data with a known true difference are simulated, tests run on them, rejections counted. At difference 0 the rate is
the type-I error, which may not exceed the nominal level; beyond 0 it is the power. Beside the tests we offer
stand the shortcuts people take, on the same data.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.proportion import proportion_confint, proportions_ztest

from robbertje_lib.statistics import RejectionRate
from robbertje_lib.statistics.resampling import Metric, bootstrapped_scores, f1, ratio
from robbertje_lib.statistics.significance import (
    equivalence_test,
    hierarchical_bootstrap,
    mcnemar_exact,
    paired_bootstrap,
    permutation_test,
)

EXAMPLES = 200  # of a simulated data set
RESAMPLES = 199  # per simulated data set: (r + 1) / 200 meets 0.05 exactly
SEEDS = 3
ACCURACY = 0.85
AGREEMENT = 0.8  # correlation of what two fine-tuned models find hard
SEED_SPREAD = 0.1  # standard deviation of a seed's skill, in units of the latent difficulty

Simulated = tuple[NDArray[np.float64], NDArray[np.float64]]  # counts of the two models: (seeds, examples, k)


def simulate_accuracy(
    examples: int, difference: float, rng: np.random.Generator, seeds: int = 1, spread: float = 0.0
) -> Simulated:
    """Correctness of two models whose true accuracies lie `difference` apart; counts are (correct, 1).

    Each example has a difficulty that both models feel and each one's own; each seed has a skill of its own, so
    that with `spread` 0 all seeds are equally good.
    """
    shared = rng.standard_normal(examples)
    models = []
    for accuracy in (ACCURACY + difference / 2, ACCURACY - difference / 2):
        skill = rng.standard_normal((seeds, 1)) * spread
        own = rng.standard_normal((seeds, examples))
        difficulty = np.sqrt(AGREEMENT) * shared + np.sqrt(1 - AGREEMENT) * own + skill
        correct = difficulty < stats.norm.ppf(accuracy) * np.sqrt(1 + spread**2)
        models.append(np.stack([correct, np.ones_like(correct)], axis=-1).astype(np.float64))
    return models[0], models[1]


def simulate_entities(examples: int, difference: float, rng: np.random.Generator) -> Simulated:
    """Entity counts (tp, fp, fn) per sentence of two models whose true F1 lie `difference` apart.

    Sentences hold 0 to a few entities and some are hard for both models. A recall of r with false positives at
    1 - r per entity has F1 = r.
    """
    entities = rng.poisson(1.0, examples)
    hardness = rng.beta(8, 2, examples) / 0.8
    models = []
    for level in (0.8 + difference / 2, 0.8 - difference / 2):
        chance = np.clip(level * hardness, 0, 1)
        right = rng.binomial(entities, chance)
        spurious = rng.binomial(entities, 1 - chance)
        models.append(np.stack([right, spurious, entities - right], axis=-1).astype(np.float64)[np.newaxis])
    return models[0], models[1]


def unpaired_z(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """The shortcut that forgets the pairing: a two-proportion z test of the two accuracies."""
    right = np.array([a[..., 0].sum(), b[..., 0].sum()])
    return float(proportions_ztest(right, [a[..., 1].sum(), b[..., 1].sum()])[1])


def bootstrap_apart(
    a: NDArray[np.floating], b: NDArray[np.floating], metric: Metric, rng: np.random.Generator
) -> float:
    """The shortcut that resamples the two systems apart: p of a difference of 0 under the percentile interval."""
    drawn = [bootstrapped_scores(counts, metric, RESAMPLES, rng).mean(axis=1) for counts in (a, b)]
    below = np.count_nonzero(drawn[0] - drawn[1] <= 0)
    return min(1.0, 2 * (min(below, RESAMPLES - below) + 1) / (RESAMPLES + 1))


MARGIN = 0.08  # of the equivalence test under study; its null is a true difference of this size

# Every test under study: p of the counts of two models. Those offered must keep their level.
TESTS: dict[str, Callable[[NDArray[np.float64], NDArray[np.float64], Metric, np.random.Generator], float]] = {
    "exact McNemar": lambda a, b, metric, rng: mcnemar_exact(a[0, :, 0], b[0, :, 0]),
    "permutation": lambda a, b, metric, rng: permutation_test(a, b, metric, RESAMPLES, rng),
    "paired bootstrap": lambda a, b, metric, rng: paired_bootstrap(a, b, metric, RESAMPLES, rng).p,
    "unpaired z": lambda a, b, metric, rng: unpaired_z(a, b),
    "bootstrap apart": bootstrap_apart,
    "hierarchical bootstrap": lambda a, b, metric, rng: hierarchical_bootstrap(a, b, metric, RESAMPLES, rng).p,
    "McNemar of one seed": lambda a, b, metric, rng: mcnemar_exact(a[0, :, 0], b[0, :, 0]),
    "equivalence": lambda a, b, metric, rng: equivalence_test(
        hierarchical_bootstrap(a, b, metric, RESAMPLES, rng), MARGIN
    ),
}
SHORTCUTS = {"unpaired z", "bootstrap apart", "McNemar of one seed"}  # not offered

# Kind of data -> how it is simulated, its metric, the tests that run on it.
DATA: dict[str, tuple[Callable[[int, float, np.random.Generator], Simulated], Metric, tuple[str, ...]]] = {
    "accuracy": (simulate_accuracy, ratio, ("exact McNemar", "permutation", "paired bootstrap", "unpaired z")),
    "entity F1": (simulate_entities, f1, ("permutation", "paired bootstrap", "bootstrap apart")),
    "accuracy over seeds": (
        lambda n, d, rng: simulate_accuracy(n, d, rng, SEEDS, SEED_SPREAD),
        ratio,
        ("hierarchical bootstrap", "McNemar of one seed"),
    ),
    # The two hypotheses change places, so that "difference 0" is again the null: here models differ by the margin.
    "alike": (lambda n, d, rng: simulate_accuracy(n, MARGIN - d, rng, SEEDS, SEED_SPREAD), ratio, ("equivalence",)),
}


def calibration_study(
    seed: int,
    simulations: int = 1000,
    power_simulations: int = 100,
    differences: tuple[float, ...] = (0.02, 0.04, 0.06, 0.08),
    alpha: float = 0.05,
) -> list[RejectionRate]:
    """Rejection rates of every test at difference 0 and beyond; all tests of one kind of data see the same sets."""
    rates = []
    for number, (kind, (simulate, metric, tests)) in enumerate(DATA.items()):
        for difference in (0.0, *differences):
            rng = np.random.default_rng([seed, number, round(difference * 1e6)])
            runs = power_simulations if difference else simulations
            rejected = np.zeros(len(tests), int)
            for _ in range(runs):
                a, b = simulate(EXAMPLES, difference, rng)
                rejected += [TESTS[test](a, b, metric, rng) <= alpha for test in tests]
            for test, count in zip(tests, rejected.tolist(), strict=True):
                low, high = proportion_confint(count, runs, method="beta")
                interval, offered = (float(low), float(high)), test not in SHORTCUTS
                rates.append(RejectionRate(test, kind, offered, difference, count / runs, interval, runs))
    return rates
