"""Whether a fine-tuning run has left chance: whether it answers better than one label for everything would.

On little data some runs end where they began, and seeds alone decide which (Dodge et al. 2020, arXiv 2002.06305;
Mosbach et al. 2021, arXiv 2006.04884). Such a run says nothing of the model, and is started again. The validation split
says so, not the training loss: a run that began to learn its examples by heart when its time was over is no better.
"""

from typing import Any

import numpy as np
from scipy.special import bdtrc

from robbertje_lib.tasks.encoding import IGNORED

LEVEL = 0.05  # of the sign test


def above_chance(answers: Any, labels: Any, outside: int | None = None) -> bool:
    """Whether more examples are answered better than by the most frequent label than are answered worse.

    answers, labels: numbers of labels, an example each or, as (examples, width), a piece each; pieces whose label is
    `IGNORED` do not count. outside: the label of words in no entity, which is not looked for (finding none is F1 0).
    An example is answered better where more of its labels are right. A one-sided exact sign test at `LEVEL`: a model
    that gives one label throughout never passes, and one that guesses passes once in twenty times or less.
    """
    answers, labels = (np.asarray(given).reshape(len(given), -1) for given in (answers, labels))
    counted = labels != IGNORED
    if not counted.any():
        return False
    frequent = np.bincount(labels[counted]).argmax()
    sought = counted if outside is None else counted & (labels != outside)
    more = ((answers == labels) & sought).sum(axis=1) - ((labels == frequent) & sought).sum(axis=1)
    better, worse = int((more > 0).sum()), int((more < 0).sum())
    return bool(bdtrc(better - 1, better + worse, 0.5) <= LEVEL)
