"""What a training run is told, and where it stands."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict
from torch import Tensor
from transformers import PreTrainedModel

from robbertje_lib.distillation.batching import Batch, Masking, Plan
from robbertje_lib.distillation.held_out import HeldOut
from robbertje_lib.experiment.results.training import CurvePoint, HeldOutPoint
from robbertje_lib.models.precision import Precision


@dataclass(frozen=True)
class UpdateCounts:
    """What the sums of a loss are divided by: counts of the whole update, or of a batch times their number.

    Each is (joined batches,): a number for each batch that the pass is joined from.
    """

    tokens: Tensor  # real tokens, specials included
    masked: Tensor
    sequences: Tensor


class Objective(Protocol):
    """What is learnt. Called on a batch it gives `loss`, with gradient, and its parts without."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts."""

    def phase(self, progress: float) -> str:
        """Name of the phase at `progress` (0 to 1); in one called `causal` nothing is masked."""

    def __call__(self, model: PreTrainedModel, batch: Batch, counts: UpdateCounts, phase: str) -> dict[str, Tensor]: ...


@dataclass(frozen=True)
class Schedule:
    """How long and how fast. Linear warm-up over a share of the run, then linear decay to zero."""

    amount: int
    amount_unit: str  # tokens, updates or sequences
    batches_per_update: int
    average_over: str  # `update`, or `micro_batch` as the published code does
    learning_rate: float
    warmup: float
    weight_decay: float
    betas: tuple[float, float]
    epsilon: float
    gradient_clip: float

    def rate(self, progress: float) -> float:
        """Learning rate of the update that starts at `progress` (0 to 1)."""
        if progress < self.warmup:
            return self.learning_rate * progress / self.warmup
        return self.learning_rate * max(0.0, (1 - progress) / max(1 - self.warmup, 1e-9))


class TrainingState(BaseModel):
    """Where a run stands; all that a checkpoint holds besides tensors."""

    model_config = ConfigDict(extra="forbid")

    update: int = 0
    epoch: int = 0
    batch: int = 0  # next batch of the epoch
    tokens: int = 0
    sequences: int = 0
    positions: int = 0  # padding included
    seconds: float = 0.0  # wall-clock, time before a kill included
    training_seconds: float = 0.0  # the same without evaluation and checkpoints
    sums: dict[str, float] = {}  # losses since the last point of the curve
    updates_in_sums: int = 0
    curve: list[CurvePoint] = []
    held_out_curve: list[HeldOutPoint] = []
    evaluated: int = -1  # tenths of the run done at the last held-out loss

    def share(self, schedule: Schedule) -> float:
        """How much of the run is done, 0 to 1."""
        done = {"tokens": self.tokens, "updates": self.update, "sequences": self.sequences}[schedule.amount_unit]
        return min(1.0, done / schedule.amount)

    @property
    def tokens_per_second(self) -> float:
        """Real tokens, evaluation and checkpoints not counted."""
        return self.tokens / max(self.training_seconds, 1e-9)

    @property
    def real_token_share(self) -> float:
        """Of all positions computed."""
        return self.tokens / max(self.positions, 1)


Show = Callable[[TrainingState], None]


@dataclass(frozen=True)
class Job:
    """Everything about a run but the model and what it learns."""

    name: str
    plan: Plan
    masking: Masking
    schedule: Schedule
    held_out: HeldOut
    checkpoints: Path
    fingerprint: dict[str, str]  # all that decides the weights: it must not change between checkpoint and resumption
    precision: Precision
    checkpoint_seconds: float = 60.0
    log_seconds: float = 10.0
    show: Show | None = None  # called with each log line and each held-out loss
