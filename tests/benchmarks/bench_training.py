"""Distillation as it is run on a GPU: the training loop itself, at the paper's shapes, with random weights and text.

For each recipe: real tokens a second after warming up, the share of the GPU's peak that its matrix products reach
(`flops.py`), peak memory, and whether a run that is interrupted and resumed ends at the same bits as one that is not.

Run: python -m tests.benchmarks.bench_training --device cuda [--recipes as_published fast] [--peak-tflops 790]
"""

import argparse
import contextlib
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import disable_progress_bars
from torch import Tensor
from transformers import PreTrainedModel

from robbertje_lib.distillation.batching import Masking, Plan, TokenStore
from robbertje_lib.distillation.held_out import HeldOut
from robbertje_lib.distillation.job import Job, Objective, TrainingState, saved_checkpoints
from robbertje_lib.distillation.student import Distillation
from robbertje_lib.distillation.training import train
from robbertje_lib.experiment.profile import Recipe, load_profile
from robbertje_lib.models.devices import choose_precision, peak_memory, training_device
from robbertje_lib.models.shapes import build_student, freeze, random_model, ready_for, teacher_config, weights_digest
from tests.benchmarks import flops
from tests.benchmarks.bench_distillation import SHAPES
from tests.benchmarks.frame import Row, begin, finish, options
from tests.benchmarks.random_text import word_tokenizer, write_store

# `as_published` is float32, as it was; its speed in the type that the hardware is made for is a question of its own.
RECIPES = {
    "as_published": ("as_published", {}),
    "as_published, bfloat16": ("as_published", {"precision": "auto"}),
    "fast": ("fast", {}),
}
WARM = 3  # tenths of a run that are not timed: compiling, and the first passes of every size


class Stopped(Exception):
    """Raised where a run is to be interrupted."""


class Counted:
    """An objective whose passes are counted; at the one numbered `stop` the run is interrupted."""

    def __init__(self, objective: Objective, stop: int | None = None) -> None:
        self.objective, self.stop, self.parts, self.passes = objective, stop, objective.parts, 0

    def phase(self, progress: float) -> str:
        return self.objective.phase(progress)

    def __call__(self, model: PreTrainedModel, *arguments: Any) -> dict[str, Tensor]:
        if self.passes == self.stop:
            raise Stopped
        self.passes += 1
        return self.objective(model, *arguments)


class Bench:
    """A store, a teacher, and the runs of one recipe on them."""

    def __init__(self, folder: Path, shapes: str, recipe: Recipe) -> None:
        self.vocabulary, settings, self.shape = SHAPES[shapes]
        self.device, self.folder, self.recipe = training_device(), folder, recipe
        self.words = word_tokenizer(self.vocabulary)
        self.store = TokenStore(folder / "store", recipe.minimum_tokens, self.words.unk_token_id)
        self.precision = choose_precision(self.device, recipe.precision)
        self.blank = random_model(teacher_config(settings, self.vocabulary, 512), seed=0)
        self.teacher = freeze(ready_for(self.blank, self.device), self.precision.dtype)
        self.objective: Objective = Distillation(self.teacher, recipe, None)

    def student(self) -> PreTrainedModel:
        return build_student(self.shape, self.blank, self.recipe, seed=1)

    def job(self, name: str, tokens: int, checkpoint_seconds: float = math.inf) -> Job:
        counts = self.store.counts(self.vocabulary) if self.recipe.masking == "smoothed" else None
        return Job(
            name=name,
            plan=Plan(self.store, self.recipe.batching, self.recipe.batch_size, 1),
            masking=Masking(self.words, self.recipe.mask_fraction, counts),
            recipe=self.recipe.model_copy(update={"amount": tokens, "amount_unit": "tokens"}),
            held_out=HeldOut(self.folder / "store", self.words, 1),
            checkpoints=self.folder / f"checkpoints-{name}",
            fingerprint={"text": self.store.fingerprint},
            precision=self.precision,
            checkpoint_seconds=checkpoint_seconds,
            log_seconds=math.inf,
        )

    def resumed_alike(self, updates: int = 4) -> bool:
        """Whether a run that is interrupted half-way and resumed ends at the same weights, bit for bit."""
        at_once = max(1, self.recipe.update_size // self.recipe.batch_size)
        batches = self.job("", 1).plan.epoch(0)
        tokens = int(sum(self.store.lengths[rows].sum() for rows in batches[: updates * at_once]))
        whole, counted = self.student(), Counted(self.objective)
        train(whole, counted, self.job("whole", tokens))
        job = self.job("resumed", tokens, checkpoint_seconds=0.0)
        with contextlib.suppress(Stopped):
            train(self.student(), Counted(self.objective, stop=counted.passes * 3 // 4), job)
        if not saved_checkpoints(job.checkpoints):
            raise RuntimeError("no checkpoint was there to go on from, so that nothing was tested")
        resumed = self.student()
        train(resumed, self.objective, job)
        return weights_digest(resumed) == weights_digest(whole)


def steady_rate(state: TrainingState) -> float:
    """Real tokens a second after the first stretches, evaluation not counted. Ends the process where there are too few."""
    if len(state.held_out_curve) < WARM + 2:
        sys.exit(f"error: {state.update} updates are too few to time; raise --tokens")
    first, last = state.held_out_curve[WARM], state.held_out_curve[-1]
    return (last.tokens - first.tokens) / (last.training_seconds - first.training_seconds)


def operations(bench: Bench, student: PreTrainedModel) -> float:
    """Floating-point operations a real token."""
    lengths = bench.store.lengths[bench.store.rows]
    tokens = float(lengths.sum())
    predicted = tokens * (bench.recipe.mask_fraction if bench.recipe.kl_positions == "masked" else 1.0)
    return flops.update(student.config, bench.teacher.config, np.asarray(lengths), predicted) / tokens


def measure(bench: Bench, name: str, given: argparse.Namespace, gpu: str | None) -> list[Row]:
    student = bench.student()
    a_token = operations(bench, student)
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    rate = steady_rate(train(student, bench.objective, bench.job("timed", given.tokens)))
    memory = torch.cuda.max_memory_allocated() if gpu else peak_memory()
    peak = given.peak_tflops * 1e12 if given.peak_tflops else flops.peak_of(gpu or "")
    said = f"{a_token / 1e9:.2f} GFLOP a token in products"
    if peak:
        said += f", {rate * a_token / peak:.0%} of a peak of {peak / 1e12:,.0f} TFLOP/s"
    else:
        said += "; the peak of this device is not known: --peak-tflops"
    alike = "resumed bit for bit" if bench.resumed_alike() else "a resumed run ends at OTHER weights"
    numbers = {"tokens/s": rate, "GB": memory / 1e9, **({"share of peak": rate * a_token / peak} if peak else {})}
    row = Row(
        what=f"distilling, the loop itself, recipe {name}, {bench.precision.name}",
        against=None,
        at=f"{given.shapes} shapes, random weights",
        ratio=None,
        interval=None,
        numbers=numbers,
        unit="",
        agreement=f"{said}; {alike}",
    )
    return [row]


def main() -> None:
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--shapes", choices=SHAPES, default="paper")
    parser.add_argument("--recipes", choices=RECIPES, nargs="+", default=list(RECIPES))
    parser.add_argument("--tokens", type=int, default=3_000_000, help="each student is trained on")
    parser.add_argument("--sequences", type=int, default=50_000, help="in the store")
    parser.add_argument("--peak-tflops", type=float, help="default: by the GPU's name, 790 for H100 and H200")
    given = begin(parser, "tests.benchmarks.bench_training")
    disable_progress_bars()
    gpu = torch.cuda.get_device_name() if given.device == "cuda" else None
    rows = []
    for name in given.recipes:
        base, changes = RECIPES[name]
        recipe = load_profile("paper").recipes[base].model_copy(update=changes)
        with tempfile.TemporaryDirectory() as folder:
            write_store(Path(folder, "store"), given.sequences, SHAPES[given.shapes][0])
            rows += measure(Bench(Path(folder), given.shapes, recipe), name, given, gpu)
    finish("training", given, rows)


if __name__ == "__main__":
    main()
