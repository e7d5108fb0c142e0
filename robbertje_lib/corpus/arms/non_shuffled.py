"""The arm `non_shuffled`: text as it is written."""

from collections.abc import Iterator, Sequence

import numpy as np

from robbertje_lib.corpus.arms import Arm
from robbertje_lib.corpus.lines import Line, SplitDocument, document_lines
from robbertje_lib.experiment import profile


def lines(
    documents: Sequence[SplitDocument], settings: profile.Corpus, generator: np.random.Generator
) -> Iterator[Line]:
    """Every line, in order."""
    return document_lines(documents)


ARM = Arm(
    name="non_shuffled", description="documents one after the other, a line at a time", lines=lines, sequential=True
)
