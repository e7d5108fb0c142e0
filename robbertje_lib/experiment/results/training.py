"""What a training run writes: `teacher.json` of `20_teacher`, `distillation/<student>.json` of `30_distillation`."""

from typing import ClassVar

from robbertje_lib.experiment.profile import Recipe, TeacherTraining
from robbertje_lib.experiment.results.base import Record, ResultFile


class PrecisionUsed(Record):
    """The arithmetic of a training run (`bf16`, `fp32`), and why it was chosen."""

    name: str
    reason: str


class CurvePoint(Record):
    """Training losses in nats, averaged since the point before; the parts before weighting, None without them."""

    update: int
    tokens: int  # real tokens seen so far
    seconds: float  # wall clock so far
    phase: str  # causal or masked
    loss: float
    kl: float | None = None
    mlm: float | None = None
    cosine: float | None = None


class HeldOutPoint(Record):
    """The model on held-out lines while it trains."""

    update: int
    tokens: int
    seconds: float  # wall clock so far
    training_seconds: float  # the same without evaluation and checkpoints
    loss: float  # masked-LM, nats per masked token
    pseudo_perplexity: float


class TrainingResult(ResultFile):
    """What the results of every training run have."""

    parameters: int
    precision: PrecisionUsed
    processes: int
    dropped: dict[str, int]  # sequences left out, by reason
    epoch_tokens: int  # real tokens of one pass over what is trained on
    updates: int
    tokens: int  # real tokens seen, special ones included, padding not
    sequences: int
    epochs: int  # passes finished
    wall_seconds: float
    tokens_per_second: float  # real tokens, evaluation and checkpoints not counted
    real_token_share: float  # of all positions computed
    peak_rss_bytes: int
    curve: list[CurvePoint]
    held_out_curve: list[HeldOutPoint]


class TeacherResult(TrainingResult):
    """A teacher trained on the spot."""

    where: ClassVar[str] = "teacher.json"
    version: ClassVar[int] = 4

    settings: TeacherTraining


class DistillationResult(TrainingResult):
    """One distillation of a student: a model of the run."""

    where: ClassVar[str] = "distillation/{student}.json"
    version: ClassVar[int] = 2

    student: str  # the model: `merged`, or `merged.2`
    seed: int
    arm: str
    selection: str
    shape: str
    recipe: str
    recipe_settings: Recipe
