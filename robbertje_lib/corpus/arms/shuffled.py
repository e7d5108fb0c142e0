"""The arm `shuffled`: lines without their neighbours."""

from collections.abc import Sequence

import numpy as np

from robbertje_lib.corpus.arms import Arm
from robbertje_lib.corpus.lines import SHUFFLE, Line, SplitDocument, document_lines
from robbertje_lib.experiment import profile


def lines(documents: Sequence[SplitDocument], settings: profile.Corpus, generator: np.random.Generator) -> list[Line]:
    """Every line, whatever document it comes from, in random order."""
    ordered = list(document_lines(documents))
    return [ordered[i] for i in generator.permutation(len(ordered))]


ARM = Arm(name="shuffled", description="the same lines in random order", lines=lines, stream=SHUFFLE)
