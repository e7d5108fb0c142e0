"""The training loop that teacher and students share.

One update is a list of batches, dealt to the processes in turn. Every process divides its losses by counts of
the whole update, so summing the gradients is all the processes have to tell each other. A batch, its mask and
its dropout are functions of (seed, epoch, batch number): nothing else is random, hence a checkpoint holds
weights, optimizer moments and a few numbers, and a resumed run equals an uninterrupted one bit for bit.
"""

import math
import time
from collections import defaultdict, deque
from contextlib import closing

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch import Tensor, nn
from transformers import PreTrainedModel

from robbertje_lib.distillation.job import (
    Job,
    Objective,
    TrainingState,
    learning_rate,
    resume,
    save_checkpoint,
    saved_checkpoints,
)
from robbertje_lib.distillation.steps import Measured, adamw, parameters_of, step
from robbertje_lib.distillation.updates import PASS_POSITIONS, Pass, PassMaker, Update, planned_updates, updates_ahead
from robbertje_lib.experiment import heartbeat
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.results.training import CurvePoint, HeldOutPoint
from robbertje_lib.experiment.words import duration
from robbertje_lib.models.devices import peak_memory, processes
from robbertje_lib.models.reproducible import same_bits
from robbertje_lib.models.shapes import ready_for

CURVE_POINTS = 200
HELD_OUT_POINTS = 10
# Updates that are handed to a device before what the first of them measured is read: so it never waits for the host.
UNREAD = defaultdict(int, cuda=1)


def train(model: PreTrainedModel, objective: Objective, job: Job) -> TrainingState:
    """Train `model` in place until the recipe's amount is reached, from the last checkpoint if there is one.

    With several processes (`accelerate launch`) each works on its share of every update's batches.
    Raises `UserError` if the loss stops being finite (the model is then as before that update), if a checkpoint is of
    other settings, or if an update has fewer batches than there are processes.
    """
    team, recipe = processes(), job.recipe
    at_once = max(1, recipe.update_size // recipe.batch_size)
    if at_once < team.num_processes:
        raise UserError(
            f"{job.name}: {at_once} batches an update cannot be dealt to {team.num_processes} "
            "processes; lower batch_size or start fewer processes"
        )
    device = team.device
    ready_for(model, device).train()
    optimizer = adamw(model, recipe)
    state = resume(model, optimizer, job)
    watch = Watch(job, objective.parts, state, team.is_main_process)
    maker = PassMaker(job, team.process_index, team.num_processes, PASS_POSITIONS[device.type])
    ahead = updates_ahead(planned_updates(job, objective, state, at_once), maker, device)
    generators = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=generators), same_bits(device), closing(ahead):
        for update, passes in ahead:
            watch.evaluate_if_due(model, update)
            measured = make_update(model, optimizer, objective, job, update, passes, team)
            watch.note(update, measured)
            watch.save_if_due(model, optimizer)
    watch.finish(model)
    return state


def make_update(
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    objective: Objective,
    job: Job,
    update: Update,
    passes: list[Pass],
    team: PartialState,
) -> Measured:
    """One optimizer update: this process's `passes` of it, and the step that all processes take."""
    recipe, device = job.recipe, team.device
    totals = torch.zeros(2 + len(objective.parts), device=device)  # positions, loss, parts
    for one in passes:
        batch, counts = one.on(device)
        torch.manual_seed(one.dropout_seed)
        with job.precision.autocast(device):
            losses = objective(model, batch, counts, update.phase)
        losses["loss"].backward()
        totals[0] += one.positions
        totals[1:] += torch.stack([losses["loss"].detach(), *(losses[part] for part in objective.parts)])
    if team.num_processes > 1:
        totals = _sum_over_processes(parameters_of(optimizer), totals)
    return step(optimizer, totals, learning_rate(recipe, update.share), recipe.gradient_clip)


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


class Watch:
    """Keeps the books of a run in its `state`; only the main process evaluates and writes.

    An update is in the books once it was read: up to UNREAD later than noted, and before anybody looks at them.
    """

    def __init__(self, job: Job, parts: tuple[str, ...], state: TrainingState, main: bool) -> None:
        self.job, self.parts, self.state, self.main = job, parts, state, main
        self.unread: deque[tuple[Update, Measured]] = deque()
        self.started = self.mark = self.logged = self.saved = time.monotonic()
        self.before = state.seconds
        self.first_share = state.share(job.recipe)

    def note(self, update: Update, measured: Measured) -> None:
        """Take down an update. Raises `UserError` once one is read that was not finite."""
        self.unread.append((update, measured))
        self._read(all_but=UNREAD[measured.device.type])

    def _read(self, all_but: int = 0) -> None:
        while len(self.unread) > all_but:
            update, measured = self.unread.popleft()
            values = dict(zip(("positions", "loss", *self.parts, "norm"), measured.read(), strict=True))
            if not all(map(math.isfinite, values.values())):
                raise _not_finite(self.job, self.state, values["loss"], values["norm"], update.batches)
            self.state.positions += int(values.pop("positions"))
            del values["norm"]
            self._count(update, values)

    def _count(self, update: Update, losses: dict[str, float]) -> None:
        """Count an update; add a point to the curve and a log line when they are due."""
        s = self.state
        before = s.share(self.job.recipe)
        update.count_in(s)
        self._tick(training=True)
        s.updates_in_sums += 1
        for part, value in losses.items():
            s.sums[part] = s.sums.get(part, 0.0) + value
        after = s.share(self.job.recipe)
        if s.update == 1 or math.floor(after * CURVE_POINTS) > math.floor(before * CURVE_POINTS):
            means = {part: value / s.updates_in_sums for part, value in s.sums.items()}
            s.curve.append(CurvePoint(update=s.update, tokens=s.tokens, seconds=s.seconds, phase=update.phase, **means))
            s.sums, s.updates_in_sums = {}, 0
        if self.main and (time.monotonic() - self.logged >= self.job.log_seconds or after == 1):
            self._log(losses)

    def evaluate_if_due(self, model: PreTrainedModel, update: Update) -> None:
        """Held-out loss before `update` each time a tenth of the run is done, unless that is of the causal phase."""
        due = math.floor(update.share * HELD_OUT_POINTS)
        if self.main and update.phase != "causal" and due > self.state.evaluated:
            self._read()
            self._tick(training=True)
            self._evaluate(model)
            self.state.evaluated = due

    def save_if_due(self, model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> None:
        """A checkpoint, at the job's time interval."""
        if self.main and time.monotonic() - self.saved >= self.job.checkpoint_seconds:
            self._read()
            self._tick()
            save_checkpoint(model, optimizer, self.job, self.state)
            self._tick()
            self.saved = self.mark

    def finish(self, model: PreTrainedModel) -> None:
        """The last point of the held-out curve."""
        self._read()
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
