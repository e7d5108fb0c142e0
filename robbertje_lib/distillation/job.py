"""What a training run is told, where it stands, and the checkpoints from which a killed one goes on.

A checkpoint holds weights, optimizer moments and a few numbers: all that it takes to end at the same model.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from robbertje_lib.distillation.batching import Batch, Masking, Plan
from robbertje_lib.distillation.held_out import HeldOut
from robbertje_lib.experiment.artefacts import atomic_path, remove
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.profile import Recipe
from robbertje_lib.experiment.results.training import CurvePoint, HeldOutPoint
from robbertje_lib.models.devices import Precision

KEPT_CHECKPOINTS = 2
MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class UpdateCounts(NamedTuple):
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


def learning_rate(recipe: Recipe, progress: float) -> float:
    """That of the update which starts at `progress` (0 to 1): linear warm-up, then linear decay to zero."""
    if progress < recipe.warmup:
        return recipe.learning_rate * progress / recipe.warmup
    return recipe.learning_rate * max(0.0, (1 - progress) / max(1 - recipe.warmup, 1e-9))


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

    def share(self, recipe: Recipe) -> float:
        """How much of the run is done, 0 to 1."""
        done = {"tokens": self.tokens, "updates": self.update, "sequences": self.sequences}[recipe.amount_unit]
        return min(1.0, done / recipe.amount)

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
    recipe: Recipe
    held_out: HeldOut
    checkpoints: Path
    fingerprint: dict[str, str]  # all that decides the weights: it must not change between checkpoint and resumption
    precision: Precision
    checkpoint_seconds: float = 60.0
    log_seconds: float = 10.0
    show: Show | None = None  # called with each log line and each held-out loss


class _Numbers(BaseModel):
    """What a checkpoint holds besides tensors, and of what run it is."""

    fingerprint: dict[str, str]
    state: TrainingState


def saved_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, oldest first; their names sort by update."""
    return sorted(folder.glob("update-*"))


def save_checkpoint(model: PreTrainedModel, optimizer: torch.optim.Optimizer, job: Job, state: TrainingState) -> None:
    """Write one, whole or not at all; only the last KEPT_CHECKPOINTS stay."""
    parameters = dict(model.named_parameters())
    moments = {
        f"{name}.{moment}": optimizer.state[p][moment]
        for name, p in parameters.items()
        if p in optimizer.state
        for moment in MOMENTS
    }
    numbers = _Numbers(fingerprint=job.fingerprint, state=state)
    with atomic_path(job.checkpoints / f"update-{state.update:09d}") as folder:
        folder.mkdir()
        save_file({name: p.detach().contiguous() for name, p in parameters.items()}, folder / "model.safetensors")
        save_file(moments, folder / "optimizer.safetensors")
        (folder / "state.json").write_text(numbers.model_dump_json(), encoding="utf-8")
    for old in saved_checkpoints(job.checkpoints)[:-KEPT_CHECKPOINTS]:
        remove(old)


def resume(model: PreTrainedModel, optimizer: torch.optim.Optimizer, job: Job) -> TrainingState:
    """Load the last checkpoint into model and optimizer; a fresh state if there is none.

    Raises `UserError` if it is damaged, or of other settings.
    """
    saved = saved_checkpoints(job.checkpoints)
    if not saved:
        return TrainingState()
    folder, device = saved[-1], str(model.device)
    try:
        numbers = _Numbers.model_validate_json((folder / "state.json").read_text(encoding="utf-8"))
        weights = load_file(folder / "model.safetensors", device=device)
        moments = load_file(folder / "optimizer.safetensors", device=device)
    except (OSError, ValueError, SafetensorError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise UserError(f"{job.name}: checkpoint {folder} is damaged ({reason}); delete it, and run again") from None
    wanted, made_with = job.fingerprint, numbers.fingerprint
    changed = sorted(key for key in wanted.keys() | made_with.keys() if wanted.get(key) != made_with.get(key))
    if changed:
        raise UserError(
            f"{job.name}: the checkpoint {folder} was made with another {', another '.join(changed)}; "
            f"delete {job.checkpoints} to start anew, or restore the settings"
        )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])
            if f"{name}.step" in moments:
                optimizer.state[parameter] = {moment: moments[f"{name}.{moment}"] for moment in MOMENTS}
    state = numbers.state
    print(f"{job.name}: goes on from update {state.update}, {state.share(job.recipe):.0%} done", flush=True)
    return state
