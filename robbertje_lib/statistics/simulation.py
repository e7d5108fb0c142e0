"""Data with a known true difference, on which `calibration` runs every test."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

ACCURACY = 0.8
AGREEMENT = 0.8  # correlation of what two fine-tuned models find hard

Simulated = tuple[NDArray[np.float64], NDArray[np.float64]]  # of the two groups: counts, or log speeds


@dataclass(frozen=True)
class SimulatedGroup:
    """How often chance made a student, and how far it spreads skill, in units of an example's latent difficulty."""

    replicates: int = 1
    seeds: int = 1  # fine-tuning runs of each
    replicate_spread: float = 0.0  # standard deviations
    seed_spread: float = 0.0


def simulate_accuracy(
    examples: int,
    difference: float,
    rng: np.random.Generator,
    groups: tuple[SimulatedGroup, SimulatedGroup] = (SimulatedGroup(), SimulatedGroup()),
) -> Simulated:
    """Correctness of two groups whose true accuracies lie `difference` apart, as (correct, 1).

    Counts are (replicates, seeds, examples, 2). Each example has a difficulty that all models feel and each one's own;
    each replicate has a skill of its own, and each fine-tuning run of it another.
    """
    shared = rng.standard_normal(examples)
    counts = []
    for group, accuracy in zip(groups, (ACCURACY + difference / 2, ACCURACY - difference / 2), strict=True):
        skill = rng.standard_normal((group.replicates, 1, 1)) * group.replicate_spread
        skill = skill + rng.standard_normal((group.replicates, group.seeds, 1)) * group.seed_spread
        own = rng.standard_normal((group.replicates, group.seeds, examples))
        difficulty = np.sqrt(AGREEMENT) * shared + np.sqrt(1 - AGREEMENT) * own + skill
        spread = np.sqrt(1 + group.replicate_spread**2 + group.seed_spread**2)
        correct = difficulty < stats.norm.ppf(accuracy) * spread
        counts.append(np.stack([correct, np.ones_like(correct)], axis=-1).astype(np.float64))
    return counts[0], counts[1]


def simulate_entities(examples: int, difference: float, rng: np.random.Generator) -> Simulated:
    """Entity counts (tp, fp, fn) per sentence of two models whose true F1 lie `difference` apart: (examples, 3).

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
        models.append(np.stack([right, spurious, entities - right], axis=-1).astype(np.float64))
    return models[0], models[1]


def simulate_speeds(
    runs: int, stretches: int, difference: float, rng: np.random.Generator, run_spread: float, stretch_spread: float
) -> Simulated:
    """Log speeds of two students' training runs, `difference` apart in truth: (runs, stretches of a run) each.

    What a run meets, such as a busy machine, touches all its stretches; each stretch has chance of its own.
    """
    speeds = [
        rng.standard_normal((runs, 1)) * run_spread + rng.standard_normal((runs, stretches)) * stretch_spread
        for _ in range(2)
    ]
    return speeds[0] + difference, speeds[1]


def simulate_clusters(
    clusters: int, per_cluster: int, correlation: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Correctness of one model of true accuracy `ACCURACY`, as (correct, 1): (clusters * per_cluster, 2), in order.

    A cluster's examples are as hard as each other, and hardness is beta distributed: any two of them correlate so.
    """
    scale = 1 / correlation - 1
    chance = rng.beta(ACCURACY * scale, (1 - ACCURACY) * scale, clusters)
    correct = rng.random((clusters, per_cluster)) < chance[:, np.newaxis]
    return np.stack([correct.ravel(), np.ones(correct.size)], axis=-1)
