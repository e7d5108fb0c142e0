"""The distillation engine against the plain published step: same objective, same sequences, turn by turn.

The plain step (`tests/support/reference_step.py`) is float32 on length-grouped batches of 5 sequences, each averaged by
itself, with the logits of every position. The engine gets the same batches, masks and averages, joins them in passes
as in training, and computes in the type it chooses itself. One turn is all forward and backward passes of one update
and the optimizer step. Weights are random; line lengths follow what the authors report for OSCAR: 80 % of lines below
35 tokens. Only real tokens count.

Peak memory is that of a process of its own for each way, over two updates whose sequences fill `--memory-positions`
positions, averaged over the whole update: the plain step takes them in one batch, the engine in passes.

Run: python -m tests.benchmarks.bench_distillation [--shapes paper demo] [--rounds 3] [--output bench.json]
"""

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from robbertje_lib.distillation.batching import Batch, Masking, Plan, join, make_batch, pack
from robbertje_lib.distillation.job import UpdateCounts
from robbertje_lib.distillation.student import distillation_loss
from robbertje_lib.distillation.training import PASS_POSITIONS
from robbertje_lib.experiment.profile import Shape, TeacherTraining, load_profile
from robbertje_lib.models.devices import Precision, choose_precision, peak_memory, training_device
from robbertje_lib.models.shapes import build_student, freeze, random_model, ready_for, teacher_config
from tests.support.reference_step import ReferenceLoss, reference_loss

SHAPES: dict[str, tuple[int, TeacherTraining, Shape]] = {  # vocabulary, teacher, student
    "paper": (
        40_000,
        TeacherTraining(layers=12, heads=12, hidden=768, feed_forward=3072, tokens=1),
        Shape(layers=6, heads=12, feed_forward=3072),
    ),
    "demo": (
        2_000,
        TeacherTraining(layers=4, heads=4, hidden=128, feed_forward=512, tokens=1),
        Shape(layers=2, heads=4, feed_forward=512),
    ),
}
# The published settings, but deterministic, so that both sides can be compared.
RECIPE = load_profile("paper").recipes["as_published"].model_copy(update={"dropout": 0.0})


class Sequences:
    """Random sequences in memory, with the face of a `batching.TokenStore`."""

    def __init__(self, count: int, vocabulary: int, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        lengths = np.clip(np.exp(generator.normal(math.log(23), 0.5, count)), 12, 200).astype(np.int32)
        self.sequences = [np.r_[0, generator.integers(5, vocabulary, n - 2), 2].astype(np.int32) for n in lengths]
        self.lengths, self.rows = lengths, np.arange(count, dtype=np.int32)

    def tokens(self, row: int) -> np.ndarray:
        return self.sequences[row]

    def batches(self, batching: str, size: int, vocabulary: int) -> list[Batch]:
        # All that Masking asks of a tokenizer is its size and its special tokens.
        words = type("Words", (SimpleNamespace,), {"__len__": lambda self: vocabulary})
        masking = Masking(words(mask_token_id=4, all_special_ids=[0, 1, 2, 3, 4]), RECIPE.mask_fraction)
        plan = Plan(self, batching, size, seed=1).epoch(0)  # type: ignore[arg-type]
        return [make_batch(self, rows, masking, (1, 0, n)) for n, rows in enumerate(plan)]  # type: ignore[arg-type]


@dataclass
class Setting:
    """Teacher and student of one way to compute, and its optimizer."""

    teacher: Any
    student: Any
    optimizer: torch.optim.Optimizer

    @staticmethod
    def build(shapes: str, engine: bool, precision: Precision) -> "Setting":
        vocabulary, teacher_settings, shape = SHAPES[shapes]
        teacher = random_model(teacher_config(teacher_settings, vocabulary, 512), seed=0)
        student = build_student(shape, teacher, RECIPE, seed=1).train()
        if engine:
            device = training_device()
            freeze(ready_for(teacher, device), precision.dtype)
            ready_for(student, device)
        else:
            teacher.eval().requires_grad_(False)
        parameters = [p for p in student.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=1e-5, betas=(0.9, 0.98), eps=1e-6, fused=engine or None)
        return Setting(teacher, student, optimizer)

    def step(self) -> None:
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), RECIPE.gradient_clip)
        self.optimizer.step()
        self.optimizer.zero_grad()


def plain_loss(setting: Setting, batch: Batch) -> ReferenceLoss:
    labels = torch.full_like(batch.input_ids, -100)
    labels.view(-1)[batch.masked] = batch.targets
    real = torch.ones_like(batch.input_ids) if batch.attention_mask is None else batch.attention_mask
    return reference_loss(setting.student, setting.teacher, batch.input_ids, real, labels)


def engine_loss(setting: Setting, batch: Batch, precision: Precision, counts: UpdateCounts | None = None) -> Any:
    with precision.autocast(torch.device("cpu")):
        return distillation_loss(setting.student, setting.teacher, batch, RECIPE, counts)


def plain_turn(setting: Setting, batches: list[Batch]) -> float:
    """Real tokens per second of one update, a batch at a time, each averaged by itself."""
    started = time.perf_counter()
    for batch in batches:
        (plain_loss(setting, batch).loss / len(batches)).backward()
    setting.step()
    return sum(b.tokens for b in batches) / (time.perf_counter() - started)


def engine_turn(setting: Setting, batches: list[Batch], lengths: np.ndarray, precision: Precision) -> float:
    """The same update in joined passes."""
    started = time.perf_counter()
    for members in pack([b.rows for b in batches], lengths, PASS_POSITIONS["cpu"]):
        parts = [batches[i] for i in members]
        counts = torch.tensor([[b.tokens, len(b.masked), len(b.rows)] for b in parts]) * len(batches)
        engine_loss(setting, join(parts), precision, UpdateCounts(*counts.T)).loss.backward()
    setting.step()
    return sum(b.tokens for b in batches) / (time.perf_counter() - started)


def measure(shapes: str, sequences: int, rounds: int) -> dict[str, Any]:
    vocabulary = SHAPES[shapes][0]
    training_device()
    precision = choose_precision(torch.device("cpu"))
    store = Sequences(sequences, vocabulary)
    batches = store.batches("sequences", RECIPE.batch_size, vocabulary)
    plain, engine = Setting.build(shapes, False, precision), Setting.build(shapes, True, precision)
    single = Precision("fp32")
    exact = Setting.build(shapes, True, single)
    agreement = {"fp32": 0.0, precision.name: 0.0}
    for batch in batches[:2]:
        with torch.no_grad():
            wanted = float(plain_loss(plain, batch).loss)
            for how, own in ((single, exact), (precision, engine)):
                error = abs(float(engine_loss(own, batch, how)[0]) / wanted - 1)
                agreement[how.name] = max(agreement[how.name], error)
    del exact
    rates: dict[str, list[float]] = {"plain": [], "engine": []}
    for _ in range(rounds + 1):  # the first is for warming up
        rates["plain"].append(plain_turn(plain, batches))
        rates["engine"].append(engine_turn(engine, batches, store.lengths, precision))
    ratios = [e / p for e, p in zip(rates["engine"][1:], rates["plain"][1:], strict=True)]
    return {
        "tokens": sum(b.tokens for b in batches),
        "precision": {"name": precision.name, "reason": precision.reason},
        "loss_relative_difference": agreement,
        "tokens_per_second": {way: {"median": median(r[1:]), "all": r[1:]} for way, r in rates.items()},
        "speed_up": {"median": median(ratios), "low": min(ratios), "high": max(ratios)},
    }


def peak_of(way: str, shapes: str, positions: int) -> int:
    """Peak resident bytes of a new process that makes one update on a batch of `positions`."""
    command = [
        sys.executable,
        "-m",
        "tests.benchmarks.bench_distillation",
        "--memory-of",
        way,
        "--shapes",
        shapes,
        "--memory-positions",
        str(positions),
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout.splitlines()[-1])


def print_peak(way: str, shapes: str, positions: int) -> None:
    """What the process started by `peak_of` does."""
    vocabulary = SHAPES[shapes][0]
    training_device()
    precision = choose_precision(torch.device("cpu"))
    store = Sequences(positions // 10, vocabulary)
    whole = store.batches("tokens", positions, vocabulary)[0]
    setting = Setting.build(shapes, way == "engine", precision)
    for _ in range(2):  # the second update has the optimizer's moments in memory
        if way == "plain":
            plain_turn(setting, [whole])
        else:
            store.rows = whole.rows
            parts = store.batches("tokens", PASS_POSITIONS["cpu"], vocabulary)
            for part in parts:
                counts = UpdateCounts(*torch.tensor([[whole.tokens], [len(whole.masked)], [len(whole.rows)]]))
                engine_loss(setting, part, precision, counts).loss.backward()
            setting.step()
    print(peak_memory())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", choices=SHAPES, nargs="+", default=["paper", "demo"])
    parser.add_argument("--sequences", type=int, default=160)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory-positions", type=int, default=8192)
    parser.add_argument("--memory-of", choices=("plain", "engine"), help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=Path("bench_distillation.json"))
    a = parser.parse_args()
    if a.memory_of:
        print_peak(a.memory_of, a.shapes[0], a.memory_positions)
        return
    result = {
        "benchmark": "distillation",
        "machine": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
        "rounds": a.rounds,
        "shapes": {shapes: measure(shapes, a.sequences, a.rounds) for shapes in a.shapes},
    }
    print(f"{'shapes':8}{'way':8}{'real tokens/s':>15}{'peak memory':>14}")
    for shapes, measured in result["shapes"].items():
        peaks = {way: peak_of(way, shapes, a.memory_positions) for way in ("plain", "engine")}
        measured["peak_rss_bytes"] = {
            **peaks,
            "positions": a.memory_positions,
            "ratio": peaks["engine"] / peaks["plain"],
        }
        for way, peak in peaks.items():
            print(f"{shapes:8}{way:8}{measured['tokens_per_second'][way]['median']:15,.0f}{peak / 1e9:11.2f} GB")
        ratio = measured["speed_up"]
        print(
            f"  {ratio['median']:.2f} times as fast ({ratio['low']:.2f} to {ratio['high']:.2f} over {a.rounds} rounds)"
        )
        print(
            f"  {measured['peak_rss_bytes']['ratio']:.2f} of the peak memory, for an update of {a.memory_positions} positions"
        )
        print("  largest relative difference of the loss:", measured["loss_relative_difference"], flush=True)
    a.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
