"""The random streams of a corpus: independent of each other for one profile seed, each named by what it is for."""

import numpy as np

# Another number is another corpus: never renumber.
FILES, DOCUMENTS, SHUFFLE, MERGE, SAMPLE, TEACHER = range(6)


def generator(seed: int, *stream: int) -> np.random.Generator:
    """The generator of a stream from its start, such as `generator(seed, FILES, 2)`."""
    return np.random.default_rng([seed, *stream])
