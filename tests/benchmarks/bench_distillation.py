"""One distillation update against its peers: same objective, same sequences and masks, turn by turn in one process.

- The published step written plainly (`tests/support/reference_step.py`): float32, length-grouped batches of 5
  sequences, each averaged by itself, with the logits of every position.
- TextBrewer (`peers.py`), where it is installed.

The engine gets the same batches, masks and averages, joins them in passes as in training, and computes in the type it
chooses itself. One turn is all forward and backward passes of one update and the optimizer step. Weights are random;
line lengths follow what the authors report for OSCAR: 80 % of lines below 35 tokens. Only real tokens count.

Peak memory is that of a process of its own for each way, over two updates whose sequences fill `--memory-positions`
positions, averaged over the whole update: the plain step takes them in one batch, the engine in passes.

Run: python -m tests.benchmarks.bench_distillation [--shapes paper demo] [--rounds 3] [--device cuda] [--isa avx2]
"""

import argparse
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle
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
from tests.benchmarks import peers
from tests.benchmarks.frame import Row, begin, finish, options, times_as_fast, turn_by_turn
from tests.support.published_batch import NOT_PREDICTED, Padded, padded
from tests.support.reference_step import ReferenceLoss, reference_loss

SHAPES: dict[str, tuple[int, TeacherTraining, Shape]] = {  # vocabulary, teacher, student
    "paper": (
        40_000,
        TeacherTraining(layers=12, heads=12, hidden=768, feed_forward=3072, tokens=1),
        Shape(layers=6, heads=12, feed_forward=3072, teacher_layers=[0, 2, 4, 7, 9, 11]),
    ),
    "demo": (
        2_000,
        TeacherTraining(layers=4, heads=4, hidden=128, feed_forward=512, tokens=1),
        Shape(layers=2, heads=4, feed_forward=512, teacher_layers=[0, 3]),
    ),
}
# The published settings, but deterministic, so that all sides can be compared.
RECIPE = load_profile("paper").recipes["as_published"].model_copy(update={"dropout": 0.0})
PLAIN = "the published step written plainly, float32, batches of 5"


class Sequences:
    """Random sequences in memory, with the face of a `batching.TokenStore`."""

    def __init__(self, count: int, vocabulary: int, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        lengths = np.clip(np.exp(generator.normal(math.log(23), 0.5, count)), 12, 200).astype(np.int32)
        self.sequences = [np.r_[0, generator.integers(5, vocabulary, n - 2), 2].astype(np.int32) for n in lengths]
        self.lengths, self.rows = lengths, np.arange(count, dtype=np.int32)

    def tokens(self, row: int) -> np.ndarray:
        return self.sequences[row]

    def row_of_tokens(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.concatenate([self.sequences[row] for row in rows]).astype(np.int64), self.lengths[rows].astype(int)

    def batches(self, batching: str, size: int, vocabulary: int) -> list[Batch]:
        # All that Masking asks of a tokenizer is its size and its special tokens.
        words = type("Words", (SimpleNamespace,), {"__len__": lambda self: vocabulary})
        masking = Masking(words(mask_token_id=4, all_special_ids=[0, 1, 2, 3, 4]), RECIPE.mask_fraction)
        plan = Plan(self, batching, size, seed=1).epoch(0)  # type: ignore[arg-type]
        return [make_batch(self, rows, masking, (1, 0, n)) for n, rows in enumerate(plan)]  # type: ignore[arg-type]


def as_published(batch: Batch, lengths: np.ndarray) -> Padded:
    """The engine's batch with the same masks, padded; the only reader here of how the library lays out a pass."""
    labels = torch.full_like(batch.input_ids, NOT_PREDICTED).flatten()
    labels[batch.masked] = batch.targets
    real = torch.cat([batch.masked, batch.unmasked]).sort().values
    return padded(batch.input_ids.flatten()[real], labels[real], lengths[batch.rows].tolist())


def engine_passes(batches: list[Batch], lengths: np.ndarray, device: str) -> Iterator[tuple[Batch, UpdateCounts]]:
    """The batches of one update, each averaged by itself, joined as training joins them."""
    for members in pack([b.rows for b in batches], lengths, PASS_POSITIONS[device]):
        parts = [batches[i] for i in members]
        counts = torch.tensor([[b.tokens, len(b.masked), len(b.rows)] for b in parts], device=device) * len(batches)
        yield join(parts).to(torch.device(device)), UpdateCounts(*counts.T)


@dataclass
class Setting:
    """Teacher and student of one way to compute, and its optimizer."""

    teacher: Any
    student: Any
    optimizer: torch.optim.Optimizer
    device: str
    precision: Precision

    @staticmethod
    def build(shapes: str, device: str, precision: Precision | None = None) -> "Setting":
        """With `precision` as the engine has them, without as anyone would."""
        vocabulary, teacher_settings, shape = SHAPES[shapes]
        teacher = random_model(teacher_config(teacher_settings, vocabulary, 512), seed=0)
        student = build_student(shape, teacher, RECIPE, seed=1).train()
        where = torch.device(device)
        if precision:
            freeze(ready_for(teacher, where), precision.dtype)
            ready_for(student, where)
        else:
            teacher.eval().requires_grad_(False).to(where)
            student.to(where)
        parameters = [p for p in student.parameters() if p.requires_grad]
        fused = True if precision else None
        optimizer = torch.optim.AdamW(parameters, lr=1e-5, betas=(0.9, 0.98), eps=1e-6, fused=fused)
        return Setting(teacher, student, optimizer, device, precision or Precision("fp32"))

    def step(self) -> None:
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), RECIPE.gradient_clip)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def engine_loss(self, batch: Batch, counts: UpdateCounts | None = None) -> Any:
        with self.precision.autocast(torch.device(self.device)):
            return distillation_loss(self.student, self.teacher, batch.to(torch.device(self.device)), RECIPE, counts)

    def plain_loss(self, batch: Padded) -> ReferenceLoss:
        return reference_loss(self.student, self.teacher, *batch.to(self.device))


def plain_update(setting: Setting, batches: list[Padded]) -> None:
    """A batch at a time, each averaged by itself."""
    for batch in batches:
        (setting.plain_loss(batch).loss / len(batches)).backward()
    setting.step()


def engine_update(setting: Setting, batches: list[Batch], lengths: np.ndarray) -> None:
    """The same update in joined passes."""
    for batch, counts in engine_passes(batches, lengths, setting.device):
        setting.engine_loss(batch, counts).loss.backward()
    setting.step()


def chosen_precision(shapes: str, batches: list[Batch], lengths: np.ndarray, device: str) -> Precision:
    """The type that is faster on these batches, found as training finds it: its own passes tried in both."""

    def passes(precision: Precision) -> Iterator[None]:
        setting = Setting.build(shapes, device, precision)
        for batch, counts in cycle(list(engine_passes(batches, lengths, device))):
            setting.engine_loss(batch, counts).loss.backward()
            setting.optimizer.zero_grad()
            yield

    return choose_precision(torch.device(device), tried=passes)


def loss_difference(engine: Setting, plain: Setting, batches: list[Batch], published: list[Padded]) -> float:
    """The largest relative difference of the loss, over the first two batches."""
    with torch.no_grad():
        return max(
            abs(float(engine.engine_loss(batch)[0]) / float(plain.plain_loss(same).loss) - 1)
            for batch, same in zip(batches[:2], published[:2], strict=True)
        )


def gradient_difference(shapes: str, batch: Padded, device: str) -> float:
    """TextBrewer's gradient of one batch against the plain step's: norm of the difference, relative."""
    gradients = []
    for own in (False, True):
        setting = Setting.build(shapes, device)
        if own:
            peer = peers.distiller(setting.teacher, setting.student, RECIPE, 1, device)
            loss = peer.train_on_batch(*peers.peer_batches([batch]), {"output_hidden_states": True})[0]
        else:
            loss = setting.plain_loss(batch).loss
        loss.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in setting.student.parameters() if p.grad is not None]))
    return float((gradients[1] - gradients[0]).norm() / gradients[0].norm())


def measure(shapes: str, sequences: int, rounds: int, device: str) -> tuple[list[Row], Precision]:
    """Real tokens a second of the engine, of the plain step and of TextBrewer; and the type the engine took."""
    vocabulary = SHAPES[shapes][0]
    training_device()
    store = Sequences(sequences, vocabulary)
    batches = store.batches("sequences", RECIPE.batch_size, vocabulary)
    published = [as_published(batch, store.lengths) for batch in batches]
    precision = chosen_precision(shapes, batches, store.lengths, device)
    plain, engine = Setting.build(shapes, device), Setting.build(shapes, device, precision)
    apart = {precision.name: loss_difference(engine, plain, batches, published)}
    if precision.name != "fp32":
        exact = Setting.build(shapes, device, Precision("fp32"))
        apart["fp32"] = loss_difference(exact, plain, batches, published)
        del exact
    ways: dict[str, Callable[[], None]] = {
        "plain": lambda: plain_update(plain, published),
        "ours": lambda: engine_update(engine, batches, store.lengths),
    }
    agreements = {"plain": "the loss differs by " + ", ".join(f"{e:.0e} in {n}" for n, e in apart.items())}
    named = {"plain": (PLAIN, None)}
    if peer := peers.name():
        other = Setting.build(shapes, device)
        own = peers.distiller(other.teacher, other.student, RECIPE, len(published), device)
        ways[peer] = lambda: peers.update(own, other.optimizer, published, RECIPE.gradient_clip)
        apart_peer = gradient_difference(shapes, published[0], device)
        agreements[peer] = (
            f"its gradient differs by {apart_peer:.0e} from the plain step's"
            if apart_peer
            else "its gradient is the plain step's, bit for bit"
        )
        named[peer] = (peer, peers.DIFFERS)
    seconds = turn_by_turn(ways, rounds, device)
    tokens = sum(b.tokens for b in batches)
    rates = {way: median(tokens / s for s in values) for way, values in seconds.items()}
    rows = []
    for way, (against, differs) in named.items():
        ratio, interval = times_as_fast(seconds[way], seconds["ours"])
        rows.append(
            Row(
                what=f"a distillation update, all-token objective, {precision.name}",
                against=against,
                at=f"{shapes} shapes",
                ratio=ratio,
                interval=interval,
                numbers={"ours": rates["ours"], "theirs": rates[way]},
                unit="tokens/s",
                agreement=agreements[way],
                differs=differs,
            )
        )
    return rows, precision


def memory_row(shapes: str, positions: int, precision: Precision, device: str) -> Row:
    """Peak memory of a new process for each way."""
    peaks = {way: peak_of(way, shapes, positions, precision, device) for way in ("ours", "plain")}
    return Row(
        what=f"a distillation update of {positions:,} positions, {precision.name}",
        against=PLAIN.replace(", batches of 5", ", in one batch"),
        at=f"{shapes} shapes",
        ratio=peaks["ours"] / peaks["plain"],
        interval=None,
        numbers={"ours": peaks["ours"] / 1e9, "theirs": peaks["plain"] / 1e9},
        unit="peak memory (GB)",
    )


def peak_of(way: str, shapes: str, positions: int, precision: Precision, device: str) -> int:
    """Peak bytes, resident or on the GPU, of a new process that makes two updates on a batch of `positions`."""
    command = [sys.executable, "-m", "tests.benchmarks.bench_distillation", "--memory-of", way, "--shapes", shapes]
    command += ["--memory-positions", str(positions), "--device", device, "--precision", precision.name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: a measurement of memory failed\n{done.stderr}")
    return int(done.stdout.splitlines()[-1])


def print_peak(way: str, shapes: str, positions: int, precision: Precision, device: str) -> None:
    """What the process started by `peak_of` does."""
    vocabulary = SHAPES[shapes][0]
    training_device()
    store = Sequences(positions // 10, vocabulary)
    whole = store.batches("tokens", positions, vocabulary)[0]
    setting = Setting.build(shapes, device, precision if way == "ours" else None)
    for _ in range(2):  # the second update has the optimizer's moments in memory
        if way == "plain":
            plain_update(setting, [as_published(whole, store.lengths)])
        else:
            store.rows = whole.rows
            counts = torch.tensor([[whole.tokens], [len(whole.masked)], [len(whole.rows)]], device=device)
            for part in store.batches("tokens", PASS_POSITIONS[device], vocabulary):
                setting.engine_loss(part, UpdateCounts(*counts)).loss.backward()
            setting.step()
    print(torch.cuda.max_memory_allocated() if device == "cuda" else peak_memory())


def main() -> None:
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--shapes", choices=SHAPES, nargs="+", default=["paper", "demo"])
    parser.add_argument("--sequences", type=int, default=160)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory-positions", type=int, default=8192)
    parser.add_argument("--memory-of", choices=("plain", "ours"), help=argparse.SUPPRESS)
    parser.add_argument("--precision", choices=("fp32", "bf16"), help=argparse.SUPPRESS)
    given = begin(parser, "tests.benchmarks.bench_distillation")
    if given.memory_of:
        print_peak(given.memory_of, given.shapes[0], given.memory_positions, Precision(given.precision), given.device)
        return
    rows = []
    for shapes in given.shapes:
        measured, precision = measure(shapes, given.sequences, given.rounds, given.device)
        rows += [*measured, memory_row(shapes, given.memory_positions, precision, given.device)]
    finish("distillation", given, rows, {} if peers.name() else {"TextBrewer": peers.MISSING})


if __name__ == "__main__":
    main()
