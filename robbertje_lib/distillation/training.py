"""The training loop that teacher and students share.

One update is a list of batches, dealt to the processes in turn. Every process divides its losses by counts of
the whole update, so summing the gradients is all the processes have to tell each other. A batch, its mask and
its dropout are functions of (seed, epoch, batch number): nothing else is random, hence a checkpoint holds
weights, optimizer moments and a few numbers, and a resumed run equals an uninterrupted one bit for bit.
"""

import math
import time
from collections import defaultdict

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch import Tensor, nn
from transformers import PreTrainedModel

from robbertje_lib.distillation.batching import join, make_batch, masked_count, pack
from robbertje_lib.distillation.job import (
    Job,
    Objective,
    TrainingState,
    UpdateCounts,
    learning_rate,
    resume,
    save_checkpoint,
    saved_checkpoints,
)
from robbertje_lib.experiment import heartbeat
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.profile import Recipe
from robbertje_lib.experiment.results.training import CurvePoint, HeldOutPoint
from robbertje_lib.experiment.words import duration
from robbertje_lib.models.devices import peak_memory, processes
from robbertje_lib.models.shapes import decayed_parameters, ready_for

DROPOUT = 2  # random stream; see batching.ORDER and MASK
# Positions of a pass that small batches of one update are joined in; what they are averaged over stays their own.
PASS_POSITIONS = defaultdict(lambda: 2**15, cpu=2**11)
CURVE_POINTS = 200
HELD_OUT_POINTS = 10


def train(model: PreTrainedModel, objective: Objective, job: Job) -> TrainingState:
    """Train `model` in place until the recipe's amount is reached, from the last checkpoint if there is one.

    With several processes (`accelerate launch`) each works on its share of every update's batches.
    Raises `UserError` if the loss stops being finite, if a checkpoint is of other settings, or if an update
    has fewer batches than there are processes.
    """
    team, recipe = processes(), job.recipe
    at_once = max(1, recipe.update_size // recipe.batch_size)
    if at_once < team.num_processes:
        raise UserError(
            f"{job.name}: {at_once} batches an update cannot be dealt to {team.num_processes} "
            "processes; lower batch_size or start fewer processes"
        )
    ready_for(model, team.device).train()
    optimizer = _optimizer(model, recipe)
    state = resume(model, optimizer, job)
    watch = Watch(job, state, team.is_main_process)
    generators = [team.device] if team.device.type == "cuda" else []
    with torch.random.fork_rng(devices=generators):
        while state.share(recipe) < 1:
            batches = job.plan.epoch(state.epoch)
            while state.batch < len(batches) and state.share(recipe) < 1:
                watch.evaluate_if_due(model, objective)
                rows = batches[state.batch : state.batch + at_once]
                phase = objective.phase(state.share(recipe))
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
    recipe, lengths = job.recipe, job.plan.store.lengths
    counts = np.array([_counts(lengths[rows], job.masking.fraction) for rows in batches], dtype=np.float32)
    averages = np.broadcast_to(counts.sum(axis=0), counts.shape)
    if recipe.normalisation == "micro_batch":
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
    norm = nn.utils.clip_grad_norm_(parameters, recipe.gradient_clip)
    values = dict(zip(("positions", "loss", *objective.parts), totals.tolist(), strict=True))
    state.positions += int(values.pop("positions"))
    if not math.isfinite(values["loss"]) or not math.isfinite(float(norm)):
        raise _not_finite(job, state, values["loss"], float(norm), batches)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(recipe, state.share(recipe))
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


def _optimizer(model: PreTrainedModel, recipe: Recipe) -> torch.optim.AdamW:
    decayed, free = decayed_parameters(model)
    groups = [{"params": decayed}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.AdamW(
        groups,
        lr=recipe.learning_rate,
        betas=recipe.adam_betas,
        eps=recipe.adam_epsilon,
        weight_decay=recipe.weight_decay,
        fused=True,  # several times faster than one kernel a parameter, on CPU as on GPU
    )


class Watch:
    """Keeps the books of a run in its `state`; only the main process evaluates and writes."""

    def __init__(self, job: Job, state: TrainingState, main: bool) -> None:
        self.job, self.state, self.main = job, state, main
        self.started = self.mark = self.logged = self.saved = time.monotonic()
        self.before = state.seconds
        self.first_share = state.share(job.recipe)

    def note(self, losses: dict[str, float], batches: list[np.ndarray], phase: str) -> None:
        """Count an update; add a point to the curve and a log line when they are due."""
        s, lengths = self.state, self.job.plan.store.lengths
        before = s.share(self.job.recipe)
        s.update += 1
        s.batch += len(batches)
        s.sequences += sum(len(rows) for rows in batches)
        s.tokens += int(sum(lengths[rows].sum() for rows in batches))
        self._tick(training=True)
        s.updates_in_sums += 1
        for part, value in losses.items():
            s.sums[part] = s.sums.get(part, 0.0) + value
        after = s.share(self.job.recipe)
        if s.update == 1 or math.floor(after * CURVE_POINTS) > math.floor(before * CURVE_POINTS):
            means = {part: value / s.updates_in_sums for part, value in s.sums.items()}
            s.curve.append(CurvePoint(update=s.update, tokens=s.tokens, seconds=s.seconds, phase=phase, **means))
            s.sums, s.updates_in_sums = {}, 0
        if self.main and (time.monotonic() - self.logged >= self.job.log_seconds or after == 1):
            self._log(losses)

    def evaluate_if_due(self, model: PreTrainedModel, objective: Objective) -> None:
        """Held-out loss each time a tenth of the run is done, unless the model is in its causal phase."""
        share = self.state.share(self.job.recipe)
        due = math.floor(share * HELD_OUT_POINTS)
        if self.main and objective.phase(share) != "causal" and due > self.state.evaluated:
            self._evaluate(model)
            self.state.evaluated = due

    def save_if_due(self, model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> None:
        """A checkpoint, at the job's time interval."""
        if self.main and time.monotonic() - self.saved >= self.job.checkpoint_seconds:
            self._tick()
            save_checkpoint(model, optimizer, self.job, self.state)
            self._tick()
            self.saved = self.mark

    def finish(self, model: PreTrainedModel) -> None:
        """The last point of the held-out curve."""
        if self.main:
            self._evaluate(model)
        self._tick()

    def _evaluate(self, model: PreTrainedModel) -> None:
        loss = self.job.held_out.loss(model, self.job.precision)
        perplexity = self.job.held_out.pseudo_perplexity(model, self.job.precision)
        self._tick()
        counted = self.state.model_dump(include={"update", "tokens", "seconds", "training_seconds"})
        self.state.held_out_curve.append(HeldOutPoint(**counted, loss=loss, pseudo_perplexity=perplexity))
        if self.job.show:
            self.job.show(self.state)

    def _tick(self, training: bool = False) -> None:
        now = time.monotonic()
        if training:
            self.state.training_seconds += now - self.mark
        self.mark, self.state.seconds = now, self.before + now - self.started

    def _log(self, losses: dict[str, float]) -> None:
        s, share = self.state, self.state.share(self.job.recipe)
        self.logged = time.monotonic()
        left = (self.logged - self.started) * (1 - share) / max(share - self.first_share, 1e-9)
        heartbeat.tell(share, left)
        parts = " ".join(f"{part} {value:.3f}" for part, value in losses.items())
        held_out = f" held-out {s.held_out_curve[-1].loss:.3f}" if s.held_out_curve else ""
        # Short, so that a notebook shows it on one line.
        print(
            f"{self.job.name} {share:4.0%} ({duration(left)} left) update {s.update} {parts}{held_out} "
            f"{s.tokens_per_second / 1000:.1f}k tokens/s {s.real_token_share:.0%} real {peak_memory() / 1e9:.1f} GB",
            flush=True,
        )
        if self.job.show:
            self.job.show(s)
