"""The distillation engine against the plain published step: same objective, same sequences, turn by turn.

The plain step (`tests/reference_step.py`) is float32 on length-grouped batches of 5 sequences with the logits of
every position; the engine takes the same sequences in one batch by tokens, in the type it chooses itself. One turn is
forward and backward passes over all sequences and one optimizer step. Weights are random; line lengths follow what
the authors report for OSCAR: 80 % of lines below 35 tokens. Only real tokens count. Peak memory is that of a process
of its own for each way, on one batch of `--memory-positions`, where the plain step holds all its logits.

Run: python tests/benchmarks/bench_distillation.py [--shapes paper] [--rounds 3] [--output bench.json]
"""

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robbertje_lib.batching import Batch, Masking, Plan, make_batch
from robbertje_lib.distillation import distillation_loss
from robbertje_lib.modelling import build_student, freeze, random_model, ready_for, teacher_config
from robbertje_lib.precision import Precision, choose_precision
from robbertje_lib.profile import Recipe, Shape, TeacherTraining
from robbertje_lib.training import peak_memory, training_device

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from reference_step import ReferenceLoss, reference_loss

SHAPES: dict[str, tuple[int, TeacherTraining, Shape]] = {  # vocabulary, teacher, student
    "paper": (
        40_000,
        TeacherTraining(layers=12, heads=12, hidden=768, feed_forward=3072, tokens=1),
        Shape(layers=6, heads=12, feed_forward=3072),
    ),
    "small": (
        8_000,
        TeacherTraining(layers=6, heads=4, hidden=256, feed_forward=1024, tokens=1),
        Shape(layers=3, heads=4, feed_forward=1024),
    ),
}
RECIPE = Recipe(
    initialisation="random",
    freeze_positions=True,
    masking="smoothed",
    kl_positions="all",
    minimum_tokens=12,
    batching="sequences",
    batch_size=5,
    update_size=640,
    normalisation="micro_batch",
    learning_rate=5e-4,
    warmup=0.05,
    weight_decay=0.01,
    dropout=0.0,
    amount=1,
    amount_unit="updates",
)


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


def engine_loss(setting: Setting, batch: Batch, precision: Precision) -> tuple[Tensor, ...]:
    with precision.autocast(torch.device("cpu")):
        return distillation_loss(setting.student, setting.teacher, batch, RECIPE)


def turn(setting: Setting, batches: list[Batch], loss: Callable[[Setting, Batch], Any]) -> float:
    """Real tokens per second of one update over `batches`."""
    started = time.perf_counter()
    for batch in batches:
        (loss(setting, batch)[0] / len(batches)).backward()
    setting.step()
    return sum(b.tokens for b in batches) / (time.perf_counter() - started)


def measure(shapes: str, sequences: int, rounds: int) -> dict[str, Any]:
    vocabulary = SHAPES[shapes][0]
    training_device()
    precision = choose_precision(torch.device("cpu"))
    store = Sequences(sequences, vocabulary)
    plain_batches = store.batches("sequences", RECIPE.batch_size, vocabulary)
    engine_batches = store.batches("tokens", 2048, vocabulary)
    plain, engine = Setting.build(shapes, False, precision), Setting.build(shapes, True, precision)
    single = Precision("fp32")
    exact = Setting.build(shapes, True, single)
    agreement = {"fp32": 0.0, precision.name: 0.0}
    for batch in plain_batches[:2]:
        with torch.no_grad():
            wanted = float(plain_loss(plain, batch).loss)
            for how, own in ((single, exact), (precision, engine)):
                error = abs(float(engine_loss(own, batch, how)[0]) / wanted - 1)
                agreement[how.name] = max(agreement[how.name], error)
    del exact
    rates: dict[str, list[float]] = {"plain": [], "engine": []}
    for _ in range(rounds + 1):  # the first is for warming up
        rates["plain"].append(turn(plain, plain_batches, plain_loss))
        rates["engine"].append(turn(engine, engine_batches, lambda s, b: engine_loss(s, b, precision)))
    ratios = [e / p for e, p in zip(rates["engine"][1:], rates["plain"][1:], strict=True)]
    return {
        "tokens": sum(b.tokens for b in plain_batches),
        "precision": {"name": precision.name, "reason": precision.reason},
        "loss_relative_difference": agreement,
        "tokens_per_second": {way: {"median": median(r[1:]), "all": r[1:]} for way, r in rates.items()},
        "speed_up": {"median": median(ratios), "low": min(ratios), "high": max(ratios)},
    }


def peak_of(way: str, shapes: str, positions: int) -> int:
    """Peak resident bytes of a new process that makes one update on a batch of `positions`."""
    command = [sys.executable, __file__, "--memory-of", way, "--shapes", shapes, "--memory-positions", str(positions)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout.splitlines()[-1])


def print_peak(way: str, shapes: str, positions: int) -> None:
    """What the process started by `peak_of` does."""
    vocabulary = SHAPES[shapes][0]
    training_device()
    precision = choose_precision(torch.device("cpu"))
    batch = Sequences(positions // 10, vocabulary).batches("tokens", positions, vocabulary)[0]
    setting = Setting.build(shapes, way == "engine", precision)
    for _ in range(2):  # the second update has the optimizer's moments in memory
        turn(setting, [batch], plain_loss if way == "plain" else lambda s, b: engine_loss(s, b, precision))
    print(peak_memory())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", choices=SHAPES, default="paper")
    parser.add_argument("--sequences", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory-positions", type=int, default=4096)
    parser.add_argument("--memory-of", choices=("plain", "engine"), help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=Path("bench_distillation.json"))
    a = parser.parse_args()
    if a.memory_of:
        print_peak(a.memory_of, a.shapes, a.memory_positions)
        return
    result = {
        "benchmark": "distillation",
        "shapes": a.shapes,
        "machine": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
        "rounds": a.rounds,
        **measure(a.shapes, a.sequences, a.rounds),
    }
    peaks = {way: peak_of(way, a.shapes, a.memory_positions) for way in ("plain", "engine")}
    result["peak_rss_bytes"] = {**peaks, "positions": a.memory_positions, "ratio": peaks["engine"] / peaks["plain"]}
    a.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    rates = {way: values["median"] for way, values in result["tokens_per_second"].items()}
    print(f"{'':8}{'real tokens/s':>15}{'peak memory':>14}")
    for way in ("plain", "engine"):
        print(f"{way:8}{rates[way]:15,.0f}{peaks[way] / 1e9:11.2f} GB")
    low, high = result["speed_up"]["low"], result["speed_up"]["high"]
    print(
        f"speed-up {result['speed_up']['median']:.2f} ({low:.2f} to {high:.2f}) over {a.rounds} rounds; peak memory x {result['peak_rss_bytes']['ratio']:.2f}"
    )
    print("largest relative difference of the loss:", result["loss_relative_difference"])


if __name__ == "__main__":
    main()
