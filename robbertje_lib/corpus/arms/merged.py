"""The arm `merged`: lines of several sentences."""

from collections.abc import Iterator, Sequence

import numpy as np

from robbertje_lib.corpus.arms import Arm
from robbertje_lib.corpus.lines import MERGE, Line, SplitDocument, join_lines
from robbertje_lib.experiment import profile


def lines(
    documents: Sequence[SplitDocument], settings: profile.Corpus, generator: np.random.Generator
) -> Iterator[Line]:
    """Every line, in order, the next joined to the current one with `merge_probability`."""
    return join_lines(documents, settings.merge_probability, generator)


ARM = Arm(
    name="merged",
    description="documents one after the other, the next line of a document joined to the current one at random",
    lines=lines,
    merges=True,
    sequential=True,
    stream=MERGE,
)
