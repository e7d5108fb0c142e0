"""Published numbers: what the paper and its surroundings report, where each was read, and what it can carry.

They stand in `data/published.yaml`. The full text of the paper was not read; its results are those of the model cards,
which repeat its main table. `paper_comparisons` asks which differences of that table exceed noise, given nothing but
scores and test sizes.
"""

from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from math import log, sqrt
from typing import Literal

import numpy as np
import yaml

from robbertje_lib.experiment import paths
from robbertje_lib.experiment.results.base import Interval, Record

Agreement = Literal["same direction", "opposite direction", "undecided"]
Certainty = Literal["confirmed", "inferred", "not available", "recollected"]

TASKS = ("dbrd", "die_dat", "ner", "pos", "sick_nl")
TITLES = {
    "pseudo_perplexity": "PPPL",
    "dbrd": "DBRD",
    "die_dat": "die/dat",
    "ner": "NER",
    "pos": "POS",
    "sick_nl": "SICK-NL",
}


class Published(Record):
    """One published number. `value` is None where the source is known to exist but was not available."""

    table: str
    row: str
    column: str
    value: int | float | str | None
    unit: str
    source: str
    certainty: Certainty = "confirmed"
    note: str = ""


class SampleSize(Record):
    """How many independent outcomes stand behind a published percentage."""

    metric: str
    size: int | None
    certainty: Certainty
    note: str


class Confound(Record):
    """Something other than the named cause that differs between two published numbers."""

    id: str
    what: str
    certainty: Certainty
    explains: str


class PublishedTables(Record):
    """The whole of `data/published.yaml`."""

    numbers: list[Published]
    sample_sizes: dict[str, SampleSize]  # task ->
    confounds: list[Confound]

    def table(self, name: str) -> list[Published]:
        """The cells of one table, row by row."""
        return [cell for cell in self.numbers if cell.table == name]


@cache
def published_tables() -> PublishedTables:
    """Every published number, test size and confound."""
    content = yaml.safe_load((paths.DATA / "published.yaml").read_text(encoding="utf-8"))
    numbers = []
    for table in content.pop("numbers"):
        for row, cells in table.pop("rows").items():
            for column, cell in cells.items():
                own = cell if isinstance(cell, dict) else {"value": cell}
                numbers.append(Published(**{**table, "row": row, "column": column, **own}))
    return PublishedTables(numbers=numbers, **content)


def published_size(row: str, column: str) -> Published:
    """A cell of `sizes` or, for `parameters` of a model, of `shapes`. Raises `StopIteration` for another."""
    cells = (cell for name in ("sizes", "shapes") for cell in published_tables().table(name))
    return next(cell for cell in cells if (cell.row, cell.column) == (row, column))


def published_score(model: str, task: str) -> Published | None:
    """The cell of the paper's main table for this model and task, or None where it has none."""
    return next(
        (cell for cell in published_tables().table("results") if (cell.row, cell.column) == (model, task)), None
    )


@dataclass(frozen=True)
class PublishedDifference:
    """Model a minus model b in one column of the paper's main table: scores 0 to 1, or log pseudo-perplexities."""

    value: float
    standard_error: float | None  # of one run each on the known test size; None where that is not known

    @property
    def interval(self) -> Interval | None:
        """At 95 %, normal; None without a standard error."""
        if self.standard_error is None:
            return None
        reach = 1.96 * self.standard_error
        return self.value - reach, self.value + reach


def published_difference(a: str, b: str, task: str) -> PublishedDifference | None:
    """What the paper's table says of two models; None where it lacks one of them. task: `pseudo_perplexity` too."""
    values = _values(a, b, task)
    if len(values) < 2:
        return None
    if task not in TASKS:
        return PublishedDifference(log(values[0] / values[1]), None)
    scores, size = [value / 100 for value in values], published_tables().sample_sizes[task].size
    error = sqrt(sum(score * (1 - score) for score in scores) / size) if size else None
    return PublishedDifference(scores[0] - scores[1], error)


def agreement(ours: Interval, theirs: Interval | None) -> Agreement:
    """Whether two intervals put the same sign on a difference; undecided if either holds 0, or theirs is not known."""
    signs = {_sign(ours), _sign(theirs) if theirs else 0}
    if 0 in signs:
        return "undecided"
    return "same direction" if len(signs) == 1 else "opposite direction"


def _sign(interval: Interval) -> int:
    low, high = interval
    return (low > 0) - (high < 0)


@dataclass(frozen=True)
class PaperComparison:
    """A pair of the paper's main table on one task, a minus b, with a two-proportion z test."""

    task: str
    a: str
    b: str
    difference: float  # scores 0 to 1
    p: float | None  # None where the size of the test set is not known
    adjusted_p: float | None  # Holm, over all tested pairs
    n: int | None  # test examples
    size_needed: int | None  # test examples per model for power 0.8; None where the scores are equal
    note: str


def paper_comparisons(alpha: float = 0.05) -> list[PaperComparison]:
    """Every pair of the paper's main table, task by task, tested with what the table gives.

    A two-proportion z test of rounded scores on the known test size: it ignores that both models saw the same
    examples, which makes it conservative, and that each score is one run of one seed, which makes it
    optimistic. Holm adjusts over all testable pairs. PPPL has no per-line values and is left out.
    """
    from robbertje_lib.statistics.significance import holm  # not above: `make plan` reads the table alone

    models = list(dict.fromkeys(cell.row for cell in published_tables().table("results")))
    # A comparison reads student against teacher, as everywhere else.
    pairs = [(b, a) if a == "teacher" else (a, b) for a, b in combinations(models, 2)]
    rows = [_paper_comparison(task, a, b, alpha) for task in TASKS for a, b in pairs]
    adjusted = iter(holm([row.p for row in rows if row.p is not None]).tolist())
    return [row if row.p is None else replace(row, adjusted_p=next(adjusted)) for row in rows]


def _paper_comparison(task: str, a: str, b: str, alpha: float) -> PaperComparison:
    from statsmodels.stats.proportion import proportions_ztest

    sample, scores = published_tables().sample_sizes[task], [value / 100 for value in _values(a, b, task)]
    p = None
    if sample.size:
        p = float(proportions_ztest(np.round(np.array(scores) * sample.size), [sample.size] * 2)[1])
    needed = _size_needed(scores[0], scores[1], alpha)
    return PaperComparison(task, a, b, scores[0] - scores[1], p, None, sample.size, needed, sample.note)


def _values(a: str, b: str, task: str) -> list[float]:
    """The cells of two models in the main table, as far as it has them."""
    cells = [published_score(model, task) for model in (a, b)]
    return [cell.value for cell in cells if cell and isinstance(cell.value, float)]


def _size_needed(a: float, b: float, alpha: float) -> int | None:
    """Test examples per model with which an unpaired test finds this difference with power 0.8."""
    from statsmodels.stats.power import NormalIndPower
    from statsmodels.stats.proportion import proportion_effectsize

    if a == b:
        return None
    return int(np.ceil(NormalIndPower().solve_power(abs(proportion_effectsize(a, b)), alpha=alpha, power=0.8)))
