"""The training loop that teacher and students share.

One update is a list of batches, dealt to the processes in turn. Every process divides its losses by counts of
the whole update, so summing the gradients is all the processes have to tell each other. A batch, its mask and
its dropout are functions of (seed, epoch, batch number): nothing else is random, hence a checkpoint holds
weights, optimizer moments and a few numbers, and a resumed run equals an uninterrupted one bit for bit.
"""

import math
from collections import defaultdict

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch import Tensor, nn
from transformers import PreTrainedModel

from robbertje_lib.distillation.batching import join, make_batch, masked_count, pack
from robbertje_lib.distillation.checkpoints import resume, saved_checkpoints
from robbertje_lib.distillation.devices import processes
from robbertje_lib.distillation.job import Job, Objective, Schedule, TrainingState, UpdateCounts
from robbertje_lib.distillation.watch import Watch
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.models.shapes import decayed_parameters, ready_for

DROPOUT = 2  # random stream; see batching.ORDER and MASK
# Positions of a pass that small batches of one update are joined in; what they are averaged over stays their own.
PASS_POSITIONS = defaultdict(lambda: 2**15, cpu=2**11)


def train(model: PreTrainedModel, objective: Objective, job: Job) -> TrainingState:
    """Train `model` in place until the schedule's amount is reached, from the last checkpoint if there is one.

    With several processes (`accelerate launch`) each works on its share of every update's batches.
    Raises `UserError` if the loss stops being finite, if a checkpoint is of other settings, or if an update
    has fewer batches than there are processes.
    """
    team, schedule = processes(), job.schedule
    if schedule.batches_per_update < team.num_processes:
        raise UserError(
            f"{job.name}: {schedule.batches_per_update} batches an update cannot be dealt to {team.num_processes} "
            "processes; lower batch_size or start fewer processes"
        )
    ready_for(model, team.device).train()
    optimizer = _optimizer(model, schedule)
    state = resume(model, optimizer, job)
    watch = Watch(job, state, team.is_main_process)
    generators = [team.device] if team.device.type == "cuda" else []
    with torch.random.fork_rng(devices=generators):
        while state.share(schedule) < 1:
            batches = job.plan.epoch(state.epoch)
            while state.batch < len(batches) and state.share(schedule) < 1:
                watch.evaluate_if_due(model, objective)
                rows = batches[state.batch : state.batch + schedule.batches_per_update]
                phase = objective.phase(state.share(schedule))
                losses = make_update(model, optimizer, objective, job, state, rows, phase, team)
                watch.note(losses, rows, phase)
                watch.save_if_due(model, optimizer)
            if state.batch >= len(batches):
                state.epoch, state.batch = state.epoch + 1, 0
    watch.finish(model)
    return state


def make_update(
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    objective: Objective,
    job: Job,
    state: TrainingState,
    batches: list[np.ndarray],
    phase: str,
    team: PartialState,
) -> dict[str, float]:
    """One optimizer update over `batches` (row numbers); its loss and parts, averaged over the whole update."""
    schedule, lengths = job.schedule, job.plan.store.lengths
    counts = np.array([_counts(lengths[rows], job.masking.fraction) for rows in batches], dtype=np.float32)
    averages = np.broadcast_to(counts.sum(axis=0), counts.shape)
    if schedule.average_over == "micro_batch":
        averages = counts * len(batches)
    totals = torch.zeros(2 + len(objective.parts), device=team.device)  # positions, loss, parts
    own = range(team.process_index, len(batches), team.num_processes)
    for members in pack([batches[i] for i in own], lengths, PASS_POSITIONS[team.device.type]):
        numbers = [own[i] for i in members]
        keys = [(job.plan.seed, state.epoch, state.batch + i) for i in numbers]
        masking = None if phase == "causal" else job.masking
        parts = [make_batch(job.plan.store, batches[i], masking, key) for i, key in zip(numbers, keys, strict=True)]
        batch = join(parts).to(team.device)
        shares = UpdateCounts(*torch.from_numpy(averages[numbers]).to(team.device).T)
        torch.manual_seed(_dropout_seed(keys[0]))
        with job.precision.autocast(team.device):
            losses = objective(model, batch, shares, phase)
        losses["loss"].backward()
        seen = losses["loss"].new_tensor(batch.input_ids.numel())
        totals += torch.stack([seen, losses["loss"].detach(), *(losses[part] for part in objective.parts)])
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if team.num_processes > 1:
        totals = _sum_over_processes(parameters, totals)
    norm = nn.utils.clip_grad_norm_(parameters, schedule.gradient_clip)
    values = dict(zip(("positions", "loss", *objective.parts), totals.tolist(), strict=True))
    state.positions += int(values.pop("positions"))
    if not math.isfinite(values["loss"]) or not math.isfinite(float(norm)):
        raise _not_finite(job, state, values["loss"], float(norm), batches)
    for group in optimizer.param_groups:
        group["lr"] = schedule.rate(state.share(schedule))
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return values


def _counts(lengths: np.ndarray, fraction: float) -> tuple[int, int, int]:
    """Tokens, masked tokens and sequences of a batch."""
    tokens = int(lengths.sum())
    return tokens, masked_count(tokens, fraction), len(lengths)


def _dropout_seed(key: tuple[int, int, int]) -> int:
    seed, epoch, number = key
    return int(np.random.SeedSequence([seed, DROPOUT, epoch, number]).generate_state(1)[0])


def _sum_over_processes(parameters: list[nn.Parameter], totals: Tensor) -> Tensor:
    """Sum gradients and loss totals over all processes, in one message."""
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    flat = reduce(torch.cat([g.flatten() for g in gradients] + [totals]), reduction="sum")
    pieces = flat.split([g.numel() for g in gradients] + [len(totals)])
    for parameter, piece in zip(parameters, pieces[:-1], strict=True):
        parameter.grad = piece.view_as(parameter)
    return pieces[-1]


def _not_finite(job: Job, state: TrainingState, loss: float, norm: float, batches: list[np.ndarray]) -> UserError:
    rows = np.concatenate(batches)
    listed = ", ".join(map(str, rows[:20])) + (f" and {len(rows) - 20} more" if len(rows) > 20 else "")
    saved = saved_checkpoints(job.checkpoints)
    last = f"the last good checkpoint is {saved[-1]}" if saved else "there is no checkpoint yet"
    return UserError(
        f"{job.name}: loss {loss}, gradient norm {norm} at update {state.update} (store rows {listed}); {last}; "
        "lower learning_rate or look at those rows"
    )


def _optimizer(model: PreTrainedModel, schedule: Schedule) -> torch.optim.AdamW:
    decayed, free = decayed_parameters(model)
    groups = [{"params": decayed}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.AdamW(
        groups,
        lr=schedule.learning_rate,
        betas=schedule.betas,
        eps=schedule.epsilon,
        weight_decay=schedule.weight_decay,
        fused=True,  # several times faster than one kernel a parameter, on CPU as on GPU
    )
