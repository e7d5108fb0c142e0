"""Speed of the resampling tests on data of the size of CoNLL-2002's Dutch test set (5,195 sentences).

Run: python -m tests.benchmarks.bench_significance. Bound: 10,000 permutations of entity F1 in 10 seconds.
"""

import time
from collections.abc import Callable
from itertools import combinations

import numpy as np

from robbertje_lib.statistics.resampling import f1
from robbertje_lib.statistics.significance import difference_of, permutation_test, resample
from robbertje_lib.statistics.simulation import simulate_entities
from tests.benchmarks.frame import Row, begin, finish, options

SENTENCES, RESAMPLES, BOUND = 5195, 10_000, 10.0


def seconds(call: Callable[[], object]) -> float:
    """Wall-clock seconds of one call: what a user waits."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def compare_groups(groups: list[np.ndarray]) -> None:
    """All pairs of groups, from their counts."""
    rng = np.random.default_rng(1)
    for a, b in combinations(resample(groups, f1, 2000, rng), 2):
        difference_of(a, b, rng)


def main() -> None:
    given = begin(options(__doc__.splitlines()[0], devices=("cpu",)), "tests.benchmarks.bench_significance")
    rng = np.random.default_rng(0)
    a, b = simulate_entities(SENTENCES, 0.01, rng)
    groups = [np.stack([simulate_entities(2500, 0.01, rng)[0] for _ in range(5)]) for _ in range(15)]
    permutations = f"{RESAMPLES:,} permutations of entity F1"
    measured = {
        (permutations, f"{SENTENCES:,} sentences, as CoNLL-2002's test set"): seconds(
            lambda: permutation_test(a, b, f1, RESAMPLES, np.random.default_rng(1))
        ),
        ("all pairs of 15 groups of 5 replicates", "2,500 sentences"): seconds(lambda: compare_groups(groups)),
    }
    rows = [
        Row(what=what, against=None, at=at, ratio=None, interval=None, numbers={"ours": value}, unit="s")
        for (what, at), value in measured.items()
    ]
    finish("significance", given, rows)
    if rows[0].numbers["ours"] > BOUND:
        raise SystemExit(f"error: {permutations} took more than {BOUND:.0f} s")


if __name__ == "__main__":
    main()
