"""What `70_significance` writes: every comparison, score and interval of a run, from stored predictions."""

from typing import ClassVar

from robbertje_lib.experiment.results.base import Interval, Record, ResultFile
from robbertje_lib.statistics import RejectionRate


class Comparison(Record):
    """Model a minus model b on one task. Scores 0 to 1; pseudo-perplexity in nats per token."""

    family: str
    task: str
    metric: str
    a: str
    b: str
    score_a: float
    score_b: float
    difference: float
    interval: Interval
    standard_error: float
    degrees: float  # of freedom
    p: float
    adjusted_p: float  # Holm, within the family
    test: str
    p_per_seed: list[float]
    test_per_seed: str
    n: int  # test examples
    seeds: int
    effect_size: float | None  # Cohen's h; None for pseudo-perplexity
    detectable_difference: float  # with power 0.8


class Score(Record):
    """One model on one task: mean over seeds, with its interval over seeds and examples."""

    task: str
    metric: str
    model: str
    score: float
    interval: Interval
    seeds: list[float]  # the score of each
    n: int


class LengthBin(Record):
    """Test examples of `low` to `high` tokens, both included."""

    low: int
    high: int
    n: int


class BinScore(Record):
    """Mean over seeds, with its interval over examples."""

    score: float
    interval: Interval


class LengthScores(Record):
    """One task by length of the test example, in bins of about equally many."""

    metric: str
    bins: list[LengthBin]
    models: dict[str, list[BinScore]]  # model -> a score a bin


class Mismatch(Record):
    """A score that fine-tuning reported and that its stored predictions do not give."""

    task: str
    model: str
    seed: int
    reported: float | None
    recomputed: float


class Calibration(Record):
    """The calibration study of the tests."""

    alpha: float
    examples: int
    seeds: int
    margin: float
    rates: list[RejectionRate]


class SignificanceResult(ResultFile):
    """Every comparison of a run."""

    where: ClassVar[str] = "significance.json"
    version: ClassVar[int] = 2

    alpha: float
    families: dict[str, str]  # family -> the question it asks
    comparisons: list[Comparison]
    scores: list[Score]
    by_length: dict[str, LengthScores]  # task ->
    pseudo_perplexity: dict[str, Interval]  # model -> of its `corpus` pseudo-perplexity, over held-out lines
    mismatches: list[Mismatch]
    calibration: Calibration
