"""The books of a training run: its curves, log lines, held-out losses and checkpoints."""

import math
import time

import numpy as np
import torch
from transformers import PreTrainedModel

from robbertje_lib.distillation.checkpoints import save_checkpoint
from robbertje_lib.distillation.devices import peak_memory
from robbertje_lib.distillation.job import Job, Objective, TrainingState
from robbertje_lib.experiment.results.training import CurvePoint, HeldOutPoint
from robbertje_lib.experiment.words import duration

CURVE_POINTS = 200
HELD_OUT_POINTS = 10


class Watch:
    """Keeps the books of a run in its `state`; only the main process evaluates and writes."""

    def __init__(self, job: Job, state: TrainingState, main: bool) -> None:
        self.job, self.state, self.main = job, state, main
        self.started = self.mark = self.logged = self.saved = time.monotonic()
        self.before = state.seconds
        self.first_share = state.share(job.schedule)

    def note(self, losses: dict[str, float], batches: list[np.ndarray], phase: str) -> None:
        """Count an update; add a point to the curve and a log line when they are due."""
        s, lengths = self.state, self.job.plan.store.lengths
        before = s.share(self.job.schedule)
        s.update += 1
        s.batch += len(batches)
        s.sequences += sum(len(rows) for rows in batches)
        s.tokens += int(sum(lengths[rows].sum() for rows in batches))
        self._tick(training=True)
        s.updates_in_sums += 1
        for part, value in losses.items():
            s.sums[part] = s.sums.get(part, 0.0) + value
        after = s.share(self.job.schedule)
        if s.update == 1 or math.floor(after * CURVE_POINTS) > math.floor(before * CURVE_POINTS):
            means = {part: value / s.updates_in_sums for part, value in s.sums.items()}
            s.curve.append(CurvePoint(update=s.update, tokens=s.tokens, seconds=s.seconds, phase=phase, **means))
            s.sums, s.updates_in_sums = {}, 0
        if self.main and (time.monotonic() - self.logged >= self.job.log_seconds or after == 1):
            self._log(losses)

    def evaluate_if_due(self, model: PreTrainedModel, objective: Objective) -> None:
        """Held-out loss each time a tenth of the run is done, unless the model is in its causal phase."""
        share = self.state.share(self.job.schedule)
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
        s, share = self.state, self.state.share(self.job.schedule)
        self.logged = time.monotonic()
        left = (self.logged - self.started) * (1 - share) / max(share - self.first_share, 1e-9)
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
