"""What `70_significance` writes: every comparison, score and interval of a run, from stored predictions."""

from typing import ClassVar

from robbertje_lib.experiment.results.base import Interval, Record, ResultFile
from robbertje_lib.statistics import CoverageRate, RejectionRate


class Comparison(Record):
    """a minus b on one task; a and b are the teacher or students. Scores 0 to 1; pseudo-perplexity in nats per token.

    The random levels, from the top: distillations (`replicates`), fine-tuning seeds, clusters of test examples. What
    is there once is a given set of weights: nothing is said of another distillation of it.
    """

    family: str
    task: str
    train: int  # training examples; 0 for pseudo-perplexity
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
    adjusted_p: float  # Holm, within the family and size
    test: str
    p_per_run: list[float]  # of the paired test of one run of each
    test_per_run: str
    n: int  # test examples
    clusters: int  # of test examples
    replicates: tuple[int, int]
    runs: tuple[int, int]  # fine-tuning runs in all
    effect_size: float | None  # Cohen's h; None for pseudo-perplexity
    detectable_difference: float  # with power 0.8


class Score(Record):
    """One group (teacher, student, control, baseline) on one task: mean with its interval over all random levels."""

    task: str
    train: int
    test_set: str
    metric: str
    group: str
    score: float
    interval: Interval
    runs: dict[str, list[float]]  # model of the group -> the score of each fine-tuning seed
    n: int
    clusters: int


class Gate(Record):
    """Two questions about one group (teacher or student) on one task, before any claim that rests on it.

    `carried_over`: whether its interval lies above the same shape with random weights, fine-tuned alike. `useful`:
    whether it lies above `baseline`, the best that needs no network (or the model's own zero-shot). For
    pseudo-perplexity the only question is whether it lies below the unigram model's: `control` is None there, and
    `carried_over` says what `useful` says. Differences: group minus control or baseline, better above 0; nats per token
    for pseudo-perplexity. p: one-sided, of no better. Both are shut where group or control was fine-tuned but once.
    """

    task: str
    train: int
    group: str
    runs: int  # fine-tuning runs or replicates, of group or control, whichever has fewer
    control: str | None
    above_control: float | None
    above_control_interval: Interval | None
    above_control_p: float | None
    carried_over: bool
    baseline: str
    above_baseline: float
    above_baseline_interval: Interval
    above_baseline_p: float
    useful: bool


class RunSpread(Record):
    """How much runs differ that nothing tells apart, as standard deviations; None where there is one alone."""

    task: str
    train: int
    group: str
    of_replicates: float | None  # between distillations, fine-tuning seeds averaged
    of_seeds: float | None  # between fine-tuning seeds of one distillation


class LengthBin(Record):
    """Test examples of `low` to `high` tokens, both included."""

    low: int
    high: int
    n: int


class BinScore(Record):
    """Mean over replicates and seeds, with its interval over clusters of examples."""

    score: float
    interval: Interval


class LengthScores(Record):
    """One task by length of the test example, in bins of about equally many."""

    metric: str
    bins: list[LengthBin]
    groups: dict[str, list[BinScore]]  # teacher or student -> a score a bin


class Mismatch(Record):
    """A score that fine-tuning reported and that its stored predictions do not give."""

    task: str
    model: str
    seed: int
    train: int
    reported: float | None
    recomputed: float


class Calibration(Record):
    """The calibration study of the tests, shipped with the library; `settings` are those of the simulations."""

    alpha: float
    settings: dict[str, float | int]
    rates: list[RejectionRate]
    coverage: list[CoverageRate]


class SignificanceResult(ResultFile):
    """Every comparison of a run."""

    where: ClassVar[str] = "significance.json"
    version: ClassVar[int] = 3

    alpha: float
    families: dict[str, str]  # family -> the question it asks
    comparisons: list[Comparison]
    scores: list[Score]
    gates: list[Gate]
    spreads: list[RunSpread]
    by_length: dict[str, LengthScores]  # task -> at the largest size
    pseudo_perplexity: dict[str, Interval]  # teacher, student or unigram -> of its `corpus` pseudo-perplexity
    mismatches: list[Mismatch]
    calibration: Calibration

    @property
    def largest(self) -> dict[str, int]:
        """Task -> its largest training size, which tables show; 0 for pseudo-perplexity."""
        return {row.task: row.train for row in sorted(self.spreads, key=lambda row: row.train)}
