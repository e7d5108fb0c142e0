"""Speed of the resampling tests on data of the size of CoNLL-2002's Dutch test set (5,195 sentences).

Run with `python -m tests.benchmarks.bench_significance`. Bound: 10,000 permutations of entity F1 in 10 seconds.
"""

import time
from collections.abc import Callable

import numpy as np

from robbertje_lib.statistics.calibration import calibration_study, simulate_entities
from robbertje_lib.statistics.resampling import f1
from robbertje_lib.statistics.significance import hierarchical_bootstrap, paired_bootstrap, permutation_test

SENTENCES, RESAMPLES, BOUND = 5195, 10_000, 10.0


def seconds(call: Callable[[], object]) -> float:
    """Wall-clock seconds of one call: what a user waits."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    a, b = simulate_entities(SENTENCES, 0.01, np.random.default_rng(0))
    seeds_a, seeds_b = a.repeat(5, axis=0), b.repeat(5, axis=0)
    measured = {
        "permutation test": seconds(lambda: permutation_test(a, b, f1, RESAMPLES, np.random.default_rng(1))),
        "paired bootstrap": seconds(lambda: paired_bootstrap(a, b, f1, RESAMPLES, np.random.default_rng(1))),
        "hierarchical bootstrap, 5 seeds": seconds(
            lambda: hierarchical_bootstrap(seeds_a, seeds_b, f1, RESAMPLES, np.random.default_rng(1))
        ),
        "calibration study": seconds(lambda: calibration_study(0)),
    }
    for name, value in measured.items():
        print(f"{name:32} {value:6.2f} s")
    if measured["permutation test"] > BOUND:
        raise SystemExit(f"{RESAMPLES:,} permutations took more than {BOUND:.0f} s")


if __name__ == "__main__":
    main()
