"""Do the paper and a run agree on a difference? One rule for every figure and table."""

from typing import Literal

from robbertje_lib.experiment.results.base import Interval

Agreement = Literal["same direction", "opposite direction", "undecided"]


def agreement(ours: Interval, theirs: Interval | None) -> Agreement:
    """Whether two intervals put the same sign on a difference; undecided if either holds 0, or theirs is not known."""
    signs = {_sign(ours), _sign(theirs) if theirs else 0}
    if 0 in signs:
        return "undecided"
    return "same direction" if len(signs) == 1 else "opposite direction"


def _sign(interval: Interval) -> int:
    low, high = interval
    return (low > 0) - (high < 0)
