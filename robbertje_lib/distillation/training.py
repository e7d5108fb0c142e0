"""The training loop that teacher and students share.

One update is a list of batches, dealt to the processes in turn. Every process divides its losses by counts of
the whole update, so summing the gradients is all the processes have to tell each other. A batch, its mask and
its dropout are functions of (seed, epoch, batch number): nothing else is random, hence a checkpoint holds
weights, optimizer moments and a few numbers, and a resumed run equals an uninterrupted one bit for bit.
"""

import json
import math
import os
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import reduce
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from robbertje_lib.distillation.batching import (
    Batch,
    Masking,
    Plan,
    TokenStore,
    join,
    make_batch,
    masked_count,
    masked_one_by_one,
    pack,
)
from robbertje_lib.distillation.losses import Head, head_losses
from robbertje_lib.experiment.artefacts import atomic_path, remove
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.models.precision import Precision
from robbertje_lib.models.shapes import decayed_parameters, decoder, head_features, hidden_states, ready_for

CURVE_POINTS = 200
HELD_OUT_POINTS = 10
HELD_OUT_TOKENS = 30_000
PSEUDO_PERPLEXITY_TOKENS = 1_000
KEPT_CHECKPOINTS = 2
DROPOUT = 2  # random stream; see batching.ORDER and MASK
# Positions of a pass that small batches of one update are joined in; what they are averaged over stays their own.
PASS_POSITIONS = defaultdict(lambda: 2**15, cpu=2**11)


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


@dataclass
class Progress:
    """Where a run stands; all that a checkpoint holds besides tensors."""

    update: int = 0
    epoch: int = 0
    batch: int = 0  # next batch of the epoch
    tokens: int = 0
    sequences: int = 0
    positions: int = 0  # padding included
    seconds: float = 0.0  # wall-clock, time before a kill included
    training_seconds: float = 0.0  # the same without evaluation and checkpoints
    sums: dict[str, float] = field(default_factory=dict)  # losses since the last point of the curve
    updates_in_sums: int = 0
    curve: list[dict[str, Any]] = field(default_factory=list)
    held_out_curve: list[dict[str, Any]] = field(default_factory=list)
    evaluated: int = -1  # tenths of the run done at the last held-out loss

    def share(self, schedule: Schedule) -> float:
        """How much of the run is done, 0 to 1."""
        done = {"tokens": self.tokens, "updates": self.update, "sequences": self.sequences}[schedule.amount_unit]
        return min(1.0, done / schedule.amount)

    def summary(self) -> dict[str, Any]:
        """The entries every result file of a training run has."""
        return {
            "updates": self.update,
            "tokens": self.tokens,
            "sequences": self.sequences,
            "epochs": self.epoch,
            "wall_seconds": self.seconds,
            "tokens_per_second": self.tokens / max(self.training_seconds, 1e-9),
            "real_token_share": self.tokens / max(self.positions, 1),
            "peak_rss_bytes": peak_memory(),
            "curve": self.curve,
            "held_out_curve": self.held_out_curve,
        }


Show = Callable[[Progress], None]


class HeldOut:
    """Held-out lines with fixed masks, so that losses of all models and moments compare."""

    def __init__(self, folder: Path, tokenizer: PreTrainedTokenizerFast, batch_size: int, seed: int) -> None:
        """Draw lines of `folder` until they hold HELD_OUT_TOKENS, and mask 15% of their tokens uniformly.

        The first of them, of PSEUDO_PERPLEXITY_TOKENS in all, are also read once per token, with just that one masked.
        """
        store = TokenStore(folder, minimum_tokens=4)
        order = np.random.default_rng(seed).permutation(store.rows)
        ends = np.cumsum(store.lengths[order])
        few, store.rows = (
            order[: int(np.searchsorted(ends, tokens)) + 1] for tokens in (PSEUDO_PERPLEXITY_TOKENS, HELD_OUT_TOKENS)
        )
        masking = Masking(tokenizer, fraction=0.15)
        batches = Plan(store, "tokens", batch_size, seed).epoch(0)
        self.batches = [make_batch(store, rows, masking, (seed, 0, i)) for i, rows in enumerate(batches)]
        self.one_by_one = masked_one_by_one(store, few, tokenizer, batch_size)

    def loss(self, model: PreTrainedModel, precision: Precision) -> float:
        """Masked-LM loss, nats per masked token."""
        return self._loss(self.batches, model, precision)

    def pseudo_perplexity(self, model: PreTrainedModel, precision: Precision) -> float:
        """Salazar's, over all tokens of the few lines; an estimate to watch, `40_pseudo_perplexity` measures it."""
        return math.exp(self._loss(self.one_by_one, model, precision))

    @staticmethod
    @torch.no_grad()
    def _loss(batches: list[Batch], model: PreTrainedModel, precision: Precision) -> float:
        total, device, training = 0.0, model.device, model.training
        model.eval()
        for batch in (b.to(device) for b in batches):
            with precision.autocast(device):
                hidden = hidden_states(model, batch.input_ids, batch.attention_mask).flatten(0, 1)[batch.masked]
                total += float(head_losses(Head(head_features(model, hidden), *decoder(model)), batch.targets).mlm)
        model.train(training)
        return total / sum(len(b.targets) for b in batches)


@dataclass(frozen=True)
class Job:
    """Everything about a run but the model and what it learns."""

    name: str
    plan: Plan
    masking: Masking
    schedule: Schedule
    held_out: HeldOut
    checkpoints: Path
    fingerprint: dict[str, str]  # what must not change between a checkpoint and its resumption
    precision: Precision
    checkpoint_seconds: float = 60.0
    log_seconds: float = 10.0
    show: Show | None = None  # called with each log line and each held-out loss


def train(model: PreTrainedModel, objective: Objective, job: Job) -> Progress:
    """Train `model` in place until the schedule's amount is reached, from the last checkpoint if there is one.

    With several processes (`accelerate launch`) each works on its share of every update's batches.
    Raises `UserError` if the loss stops being finite, if a checkpoint is of other settings, or if an update
    has fewer batches than there are processes.
    """
    state, schedule = processes(), job.schedule
    if schedule.batches_per_update < state.num_processes:
        raise UserError(
            f"{job.name}: {schedule.batches_per_update} batches an update cannot be dealt to {state.num_processes} "
            "processes; lower batch_size or start fewer processes"
        )
    ready_for(model, state.device).train()
    optimizer = _optimizer(model, schedule)
    progress = _resume(model, optimizer, job)
    watch = _Watch(job, progress, state)
    generators = [state.device] if state.device.type == "cuda" else []
    with torch.random.fork_rng(devices=generators):
        while progress.share(schedule) < 1:
            batches = job.plan.epoch(progress.epoch)
            while progress.batch < len(batches) and progress.share(schedule) < 1:
                watch.evaluate_if_due(model, objective)
                rows = batches[progress.batch : progress.batch + schedule.batches_per_update]
                phase = objective.phase(progress.share(schedule))
                losses = _update(model, optimizer, objective, job, progress, rows, phase, state)
                watch.note(losses, rows, phase)
                watch.save_if_due(model, optimizer)
            if progress.batch >= len(batches):
                progress.epoch, progress.batch = progress.epoch + 1, 0
    watch.finish(model)
    return progress


def _update(
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    objective: Objective,
    job: Job,
    progress: Progress,
    batches: list[np.ndarray],
    phase: str,
    state: PartialState,
) -> dict[str, float]:
    """One optimizer update over `batches` (row numbers); its loss and parts, averaged over the whole update."""
    schedule, lengths = job.schedule, job.plan.store.lengths
    counts = np.array([_counts(lengths[rows], job.masking.fraction) for rows in batches], dtype=np.float32)
    averages = np.broadcast_to(counts.sum(axis=0), counts.shape)
    if schedule.average_over == "micro_batch":
        averages = counts * len(batches)
    totals = torch.zeros(2 + len(objective.parts), device=state.device)  # positions, loss, parts
    own = range(state.process_index, len(batches), state.num_processes)
    for members in pack([batches[i] for i in own], lengths, PASS_POSITIONS[state.device.type]):
        numbers = [own[i] for i in members]
        keys = [(job.plan.seed, progress.epoch, progress.batch + i) for i in numbers]
        masking = None if phase == "causal" else job.masking
        parts = [make_batch(job.plan.store, batches[i], masking, key) for i, key in zip(numbers, keys, strict=True)]
        batch = join(parts).to(state.device)
        shares = UpdateCounts(*torch.from_numpy(averages[numbers]).to(state.device).T)
        torch.manual_seed(_dropout_seed(keys[0]))
        with job.precision.autocast(state.device):
            losses = objective(model, batch, shares, phase)
        losses["loss"].backward()
        seen = losses["loss"].new_tensor(batch.input_ids.numel())
        totals += torch.stack([seen, losses["loss"].detach(), *(losses[part] for part in objective.parts)])
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if state.num_processes > 1:
        totals = _sum_over_processes(parameters, totals)
    norm = nn.utils.clip_grad_norm_(parameters, schedule.gradient_clip)
    values = dict(zip(("positions", "loss", *objective.parts), totals.tolist(), strict=True))
    progress.positions += int(values.pop("positions"))
    if not math.isfinite(values["loss"]) or not math.isfinite(float(norm)):
        raise _not_finite(job, progress, values["loss"], float(norm), batches)
    for group in optimizer.param_groups:
        group["lr"] = schedule.rate(progress.share(schedule))
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


def _not_finite(job: Job, progress: Progress, loss: float, norm: float, batches: list[np.ndarray]) -> UserError:
    rows = np.concatenate(batches)
    listed = ", ".join(map(str, rows[:20])) + (f" and {len(rows) - 20} more" if len(rows) > 20 else "")
    saved = _saved(job.checkpoints)
    last = f"the last good checkpoint is {saved[-1]}" if saved else "there is no checkpoint yet"
    return UserError(
        f"{job.name}: loss {loss}, gradient norm {norm} at update {progress.update} (store rows {listed}); {last}; "
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


class _Watch:
    """Keeps the books of a run: curves, log lines, held-out loss, checkpoints. Only the main process writes."""

    def __init__(self, job: Job, progress: Progress, state: PartialState) -> None:
        self.job, self.progress, self.state = job, progress, state
        self.started = self.mark = self.logged = self.saved = time.monotonic()
        self.before = progress.seconds
        self.first_share = progress.share(job.schedule)

    def note(self, losses: dict[str, float], batches: list[np.ndarray], phase: str) -> None:
        """Count an update; add a point to the curve and a log line when they are due."""
        p, lengths = self.progress, self.job.plan.store.lengths
        before = p.share(self.job.schedule)
        p.update += 1
        p.batch += len(batches)
        p.sequences += sum(len(rows) for rows in batches)
        p.tokens += int(sum(lengths[rows].sum() for rows in batches))
        self._tick(training=True)
        p.updates_in_sums += 1
        for part, value in losses.items():
            p.sums[part] = p.sums.get(part, 0.0) + value
        after = p.share(self.job.schedule)
        if p.update == 1 or math.floor(after * CURVE_POINTS) > math.floor(before * CURVE_POINTS):
            means = {part: value / p.updates_in_sums for part, value in p.sums.items()}
            p.curve.append({"update": p.update, "tokens": p.tokens, "seconds": p.seconds, "phase": phase, **means})
            p.sums, p.updates_in_sums = {}, 0
        if time.monotonic() - self.logged >= self.job.log_seconds or after == 1:
            self._log(losses)

    def evaluate_if_due(self, model: PreTrainedModel, objective: Objective) -> None:
        """Held-out loss each time a tenth of the run is done, unless the model is in its causal phase."""
        share = self.progress.share(self.job.schedule)
        due = math.floor(share * HELD_OUT_POINTS)
        if self.state.is_main_process and objective.phase(share) != "causal" and due > self.progress.evaluated:
            self._evaluate(model)
            self.progress.evaluated = due

    def finish(self, model: PreTrainedModel) -> None:
        """The last point of the held-out curve."""
        if self.state.is_main_process:
            self._evaluate(model)
        self._tick()

    def save_if_due(self, model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> None:
        """A checkpoint, at the job's time interval."""
        if self.state.is_main_process and time.monotonic() - self.saved >= self.job.checkpoint_seconds:
            self._tick()
            _save(model, optimizer, self.job, self.progress)
            self._tick()
            self.saved = self.mark

    def _evaluate(self, model: PreTrainedModel) -> None:
        p = self.progress
        loss = self.job.held_out.loss(model, self.job.precision)
        perplexity = self.job.held_out.pseudo_perplexity(model, self.job.precision)
        self._tick()
        p.held_out_curve.append(
            {"update": p.update, "tokens": p.tokens, "seconds": p.seconds, "training_seconds": p.training_seconds,
             "loss": loss, "pseudo_perplexity": perplexity}
        )  # fmt: skip
        if self.job.show:
            self.job.show(p)

    def _tick(self, training: bool = False) -> None:
        now = time.monotonic()
        if training:
            self.progress.training_seconds += now - self.mark
        self.mark, self.progress.seconds = now, self.before + now - self.started

    def _log(self, losses: dict[str, float]) -> None:
        if not self.state.is_main_process:
            return
        p, share = self.progress, self.progress.share(self.job.schedule)
        self.logged = time.monotonic()
        elapsed = self.logged - self.started
        left = elapsed * (1 - share) / max(share - self.first_share, 1e-9)
        parts = " ".join(f"{part} {value:.3f}" for part, value in losses.items())
        held_out = f" held-out {p.held_out_curve[-1]['loss']:.3f}" if p.held_out_curve else ""
        rate = p.tokens / max(p.training_seconds, 1e-9)
        # Short, so that a notebook shows it on one line.
        print(
            f"{self.job.name} {share:4.0%} ({_duration(left)} left) update {p.update} {parts}{held_out} "
            f"{rate / 1000:.1f}k tokens/s {p.tokens / p.positions:.0%} real {peak_memory() / 1e9:.1f} GB",
            flush=True,
        )
        if self.job.show:
            self.job.show(p)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def peak_memory() -> int:
    """Peak resident memory of this process, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux: getrusage would also count what the parent process held before it started this one
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def training_device() -> torch.device:
    """This process's device. On a CPU, `ROBBERTJE_THREADS` is how many threads to take of a shared machine.

    PyTorch's CPU kernels are compiled per matrix size, and batches come in many sizes: kept at their default of
    1,024, the compiled ones add gigabytes. Compiling again costs next to nothing. Call this before any product.
    """
    for cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(cache, "32")
    if threads := os.environ.get("ROBBERTJE_THREADS"):
        torch.set_num_threads(int(threads))
    return processes().device


def processes() -> PartialState:
    """The processes of this run and their devices: one, unless `accelerate launch` or `torchrun` started several."""
    return PartialState(cpu=not torch.accelerator.is_available())


# Checkpoints


def _saved(folder: Path) -> list[Path]:
    """Complete checkpoints, oldest first; their names sort by update."""
    return sorted(folder.glob("update-*"))


def _save(model: PreTrainedModel, optimizer: torch.optim.Optimizer, job: Job, progress: Progress) -> None:
    parameters = dict(model.named_parameters())
    moments = {
        f"{name}.{moment}": optimizer.state[p][moment]
        for name, p in parameters.items()
        if p in optimizer.state
        for moment in ("exp_avg", "exp_avg_sq", "step")
    }
    with atomic_path(job.checkpoints / f"update-{progress.update:09d}") as folder:
        folder.mkdir()
        save_file({name: p.detach().contiguous() for name, p in parameters.items()}, folder / "model.safetensors")
        save_file(moments, folder / "optimizer.safetensors")
        content = {"fingerprint": _fingerprint(job), "progress": asdict(progress)}
        (folder / "state.json").write_text(json.dumps(content), encoding="utf-8")
    for old in _saved(job.checkpoints)[:-KEPT_CHECKPOINTS]:
        remove(old)


def _fingerprint(job: Job) -> dict[str, str]:
    return {**job.fingerprint, "precision": job.precision.name}


def _resume(model: PreTrainedModel, optimizer: torch.optim.Optimizer, job: Job) -> Progress:
    """Load the last checkpoint into model and optimizer; a fresh `Progress` if there is none."""
    saved = _saved(job.checkpoints)
    if not saved:
        return Progress()
    folder = saved[-1]
    device = str(next(model.parameters()).device)
    try:
        content = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        weights = load_file(folder / "model.safetensors", device=device)
        moments = load_file(folder / "optimizer.safetensors", device=device)
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"{job.name}: the checkpoint {folder} is damaged ({error}); delete it, and run again") from None
    wanted, found = _fingerprint(job), content["fingerprint"]
    changed = sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key))
    if changed:
        raise UserError(
            f"{job.name}: the checkpoint {folder} was made with another {', another '.join(changed)}; "
            f"delete {job.checkpoints} to start anew, or restore the settings"
        )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])
            if f"{name}.step" in moments:
                optimizer.state[parameter] = {
                    moment: moments[f"{name}.{moment}"] for moment in ("step", "exp_avg", "exp_avg_sq")
                }
    progress = Progress(**content["progress"])
    print(f"{job.name}: goes on from update {progress.update}, {progress.share(job.schedule):.0%} done", flush=True)
    return progress
