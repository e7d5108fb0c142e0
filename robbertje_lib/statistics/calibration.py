"""How often each significance test cries wolf, and how often it finds what is there.

Data with a known true difference are simulated, tests run on them, rejections counted. At difference 0 the rate is
the type-I error, which should be the nominal level; beyond 0 it is the power. Beside the tests we offer stand the
shortcuts people take, on the same data. The study is about the tests and no run changes its data, so it is shipped:
`python -m robbertje_lib.statistics.calibration` makes `data/calibration.json` anew, in about five minutes of one core.
"""

import ast
import hashlib
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from statsmodels.stats.proportion import proportion_confint, proportions_ztest

from robbertje_lib.statistics import CoverageRate, RejectionRate
from robbertje_lib.statistics.resampling import Metric, bootstrapped_scores, clustered, f1, ratio
from robbertje_lib.statistics.significance import (
    Difference,
    difference_of,
    equivalence_test,
    interval_of,
    mcnemar_exact,
    paired_bootstrap,
    permutation_test,
    resample,
    welch_difference,
)
from robbertje_lib.statistics.simulation import (
    ACCURACY,
    Simulated,
    SimulatedGroup,
    simulate_accuracy,
    simulate_clusters,
    simulate_entities,
    simulate_speeds,
)

HERE = Path(__file__).parent
DATA = HERE.parent / "data"

SEED = 2012
ALPHA = 0.05
SIMULATIONS = 4000  # of a cell without a difference
POWER_SIMULATIONS = 1000
RESAMPLES = 199  # per simulated data set: (r + 1) / 200 meets 0.05 exactly
EXAMPLES = 400  # of a simulated data set
SEED_SPREAD = 0.1  # standard deviation of a fine-tuning seed's skill; an example's difficulty has 1
SEEDS_OF_ONE = 5  # of the shortcut that fine-tunes one distillation
MARGIN = 0.1  # of the equivalence test; its null is a true difference of this size
STRETCHES = 12  # timed in a training run
STRETCH_SPREAD = 0.03  # standard deviation of log speed between them
SETTINGS: dict[str, float | int] = {
    "seed": SEED,
    "alpha": ALPHA,
    "resamples": RESAMPLES,
    "examples": EXAMPLES,
    "accuracy": ACCURACY,
    "seed_spread": SEED_SPREAD,
    "seeds_of_one": SEEDS_OF_ONE,
    "margin": MARGIN,
    "stretches": STRETCHES,
    "stretch_spread": STRETCH_SPREAD,
}
DIFFERENCES = (0.02, 0.04, 0.06, 0.08)
REPLICATES = (2, 3, 5, 10)
SPREAD_RATIOS = (0.5, 1.0, 2.0)  # between replicates over between seeds; of speeds, between runs over within
CLUSTERS = tuple((clusters, 10, correlation) for clusters in (20, 60) for correlation in (0.1, 0.3))


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


# Every test under study: p of the data of two groups. Those offered must keep their level.
TESTS: dict[str, Callable[[NDArray[np.float64], NDArray[np.float64], Metric, np.random.Generator], float]] = {
    "exact McNemar": lambda a, b, metric, rng: mcnemar_exact(a[0, 0, :, 0], b[0, 0, :, 0]),
    "permutation": lambda a, b, metric, rng: permutation_test(a, b, metric, RESAMPLES, rng),
    "paired bootstrap": lambda a, b, metric, rng: paired_bootstrap(a, b, metric, RESAMPLES, rng).p,
    "unpaired z": lambda a, b, metric, rng: unpaired_z(a, b),
    "bootstrap apart": bootstrap_apart,
    "replicates and examples": lambda a, b, metric, rng: paired_bootstrap(a, b, metric, RESAMPLES, rng).p,
    # The seeds of one distillation taken for all that chance does.
    "seeds and examples": lambda a, b, metric, rng: paired_bootstrap(a[0], b[0], metric, RESAMPLES, rng).p,
    "equivalence": lambda a, b, metric, rng: equivalence_test(paired_bootstrap(a, b, metric, RESAMPLES, rng), MARGIN),
    "Welch of runs": lambda a, b, metric, rng: welch_difference(a.mean(axis=1), b.mean(axis=1)).p,
    "stretches of one run": lambda a, b, metric, rng: welch_difference(a[0], b[0]).p,
}
SHORTCUTS = {"unpaired z", "bootstrap apart", "seeds and examples", "stretches of one run"}  # not offered


@dataclass(frozen=True)
class Cell:
    """One kind of data, and the tests that run on the same sets of it."""

    data: str
    tests: tuple[str, ...]
    simulate: Callable[[float, np.random.Generator], Simulated]
    metric: Metric = ratio
    replicates: int | None = None
    spread_ratio: float | None = None
    differences: tuple[float, ...] = (0.0, *DIFFERENCES)


def cells() -> Iterator[Cell]:
    """All of the study."""
    paired = ("permutation", "paired bootstrap")
    yield Cell("accuracy", ("exact McNemar", *paired, "unpaired z"), lambda d, rng: simulate_accuracy(EXAMPLES, d, rng))
    yield Cell("entity F1", (*paired, "bootstrap apart"), lambda d, rng: simulate_entities(EXAMPLES, d, rng), f1)
    both = ("replicates and examples",)
    for spread in SPREAD_RATIOS:
        for replicates in REPLICATES:
            yield _students("replicates", both, replicates, 1, spread)
            yield _students("alike", ("equivalence",), replicates, 1, spread)
            yield _speeds("Welch of runs", replicates, spread)
        yield _students("one distillation", ("seeds and examples",), 1, SEEDS_OF_ONE, spread, (0.0,))
        yield _speeds("stretches of one run", 1, spread, (0.0,))
    yield _students("replicates, two seeds each", both, 5, 2, 1.0)
    for replicates in REPLICATES:
        yield _students("replicates against given weights", both, replicates, 1, 1.0, (0.0,))


def _students(
    data: str,
    tests: tuple[str, ...],
    replicates: int,
    seeds: int,
    spread: float,
    differences: tuple[float, ...] | None = None,
) -> Cell:
    student = SimulatedGroup(replicates, seeds, spread * SEED_SPREAD, SEED_SPREAD)
    groups = student, SimulatedGroup() if "given" in data else student

    def simulate(difference: float, rng: np.random.Generator) -> Simulated:
        # Of likeness the two hypotheses change places, so that "difference 0" is again the null: there they differ
        # by the margin.
        true = MARGIN - difference if data == "alike" else difference
        return simulate_accuracy(EXAMPLES, true, rng, groups)

    # Power is drawn at one ratio.
    differences = differences or ((0.0, *DIFFERENCES) if spread == 1 else (0.0,))
    return Cell(data, tests, simulate, ratio, replicates, spread, differences)


def _speeds(test: str, runs: int, spread: float, differences: tuple[float, ...] | None = None) -> Cell:
    def simulate(difference: float, rng: np.random.Generator) -> Simulated:
        return simulate_speeds(runs, STRETCHES, difference, rng, spread * STRETCH_SPREAD, STRETCH_SPREAD)

    differences = differences or ((0.0, *DIFFERENCES) if spread == 1 else (0.0,))
    return Cell("speeds", (test,), simulate, ratio, runs, spread, differences)


def calibration_rates(cell: Cell, difference: float, simulations: int) -> list[RejectionRate]:
    """How often each test of a cell rejects; the same sets every time, whatever else the study holds."""
    rng = _generator(f"{cell.data} {cell.replicates} {cell.spread_ratio} {difference}")
    rejected = np.zeros(len(cell.tests), int)
    for _ in range(simulations):
        a, b = cell.simulate(difference, rng)
        rejected += [TESTS[test](a, b, cell.metric, rng) <= ALPHA for test in cell.tests]
    known = cell.data, cell.replicates, cell.spread_ratio
    return [
        RejectionRate(test, *known, test not in SHORTCUTS, difference, *_share(count, simulations))
        for test, count in zip(cell.tests, rejected.tolist(), strict=True)
    ]


def coverage_rates(clusters: int, per_cluster: int, correlation: float, simulations: int) -> list[CoverageRate]:
    """How often the 95 % interval of a difference, and of one accuracy, holds the truth.

    A few clusters make one accuracy the harder: they are skewed, which evens out in a difference.
    """
    rng = _generator(f"{clusters} {per_cluster} {correlation}")
    ids = np.arange(clusters).repeat(per_cluster)
    held = {"clusters": 0, "clusters, one score": 0, "examples": 0}
    for _ in range(simulations):
        counts = np.stack([simulate_clusters(clusters, per_cluster, correlation, rng) for _ in range(2)])
        a, b = resample(list(clustered(counts, ids)), ratio, RESAMPLES, rng)
        held["clusters"] += _holds(difference_of(a, b, rng), 0.0)
        held["clusters, one score"] += _holds(interval_of(a, rng), ACCURACY)
        held["examples"] += _holds(paired_bootstrap(counts[0], counts[1], ratio, RESAMPLES, rng), 0.0)
    return [
        CoverageRate(method, method != "examples", clusters, per_cluster, correlation, *_share(count, simulations))
        for method, count in held.items()
    ]


def _holds(found: Difference, truth: float) -> bool:
    return found.low <= truth <= found.high


def _generator(what: str) -> np.random.Generator:
    return np.random.default_rng([SEED, zlib.crc32(what.encode())])


def _share(count: int, simulations: int) -> tuple[float, tuple[float, float], int]:
    low, high = proportion_confint(count, simulations, method="beta")
    return count / simulations, (round(float(low), 4), round(float(high), 4)), simulations


def source_digest() -> str:
    """SHA-256 of the code that the study runs, comments and docstrings aside."""
    digest = hashlib.sha256()
    for name in ("resampling", "significance", "simulation", "calibration"):
        tree = ast.parse((HERE / f"{name}.py").read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node):
                del node.body[0]
        digest.update(ast.unparse(tree).encode())
    return digest.hexdigest()


def shipped() -> tuple[list[RejectionRate], list[CoverageRate], dict[str, float | int]]:
    """The study as `data/calibration.json` holds it: rejection rates, coverage, and settings of the simulations."""
    stored = json.loads((DATA / "calibration.json").read_text(encoding="utf-8"))
    rates = [RejectionRate(**{**row, "interval": tuple(row["interval"])}) for row in stored["rates"]]
    coverage = [CoverageRate(**{**row, "interval": tuple(row["interval"])}) for row in stored["coverage"]]
    return rates, coverage, stored["settings"]


def main() -> None:
    """Run the study and write it."""
    rates: list[RejectionRate] = []
    for cell in cells():
        for difference in cell.differences:
            rates += calibration_rates(cell, difference, POWER_SIMULATIONS if difference else SIMULATIONS)
    coverage = [row for cluster in CLUSTERS for row in coverage_rates(*cluster, SIMULATIONS)]
    study = {
        "source": source_digest(),
        "settings": SETTINGS,
        "rates": [asdict(row) for row in rates],
        "coverage": [asdict(row) for row in coverage],
    }
    text = json.dumps(study).replace("{", "\n{")  # a row a line, so that a change is a line's
    (DATA / "calibration.json").write_text(text.lstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
