"""Checkpoints: weights, optimizer moments and a few numbers, from which a killed run goes on to the same model."""

from pathlib import Path

import torch
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from robbertje_lib.distillation.job import Job, TrainingState
from robbertje_lib.experiment.artefacts import atomic_path, remove
from robbertje_lib.experiment.errors import UserError

KEPT_CHECKPOINTS = 2
MOMENTS = ("step", "exp_avg", "exp_avg_sq")


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
    print(f"{job.name}: goes on from update {state.update}, {state.share(job.schedule):.0%} done", flush=True)
    return state
