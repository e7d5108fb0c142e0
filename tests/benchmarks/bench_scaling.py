"""Distillation's time and memory as the corpus grows 16 times, and as one process becomes two.

Every measurement is a process of its own that opens a token store of random sequences and trains a `demo`-shaped
student for the same number of tokens. Memory is split in what the process allocated and what it sees of the mapped
store, which the system may drop at any time. With two processes each has one thread; one process has one, too.

Run: python -m tests.benchmarks.bench_scaling [--sequences 50000] [--tokens 200000] [--isa avx2]
"""

import argparse
import copy
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from datasets import disable_progress_bars

from robbertje_lib.distillation.batching import Masking, Plan, TokenStore
from robbertje_lib.distillation.held_out import HeldOut
from robbertje_lib.distillation.job import Job
from robbertje_lib.distillation.student import Distillation
from robbertje_lib.distillation.training import train
from robbertje_lib.distillation.trial import tried_precision
from robbertje_lib.experiment.profile import Shape, TeacherTraining, load_profile
from robbertje_lib.models.devices import Precision, training_device
from robbertje_lib.models.shapes import build_student, freeze, random_model, ready_for, teacher_config
from tests.benchmarks.frame import Row, begin, finish, options
from tests.benchmarks.random_text import word_tokenizer, write_store

VOCABULARY = 2000
# Two batches an update, so that two processes have one each.
RECIPE = (
    load_profile("demo")
    .recipes["fast"]
    .model_copy(update={"initialisation": "random", "batch_size": 1024, "update_size": 2048})
)


class PeakMemory(threading.Thread):
    """Samples this process's allocated and mapped memory, 50 times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.allocated = self.mapped = 0

    def run(self) -> None:
        while True:
            fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
            kibibytes = {name: int(fields[name].split()[0]) for name in ("RssAnon", "RssFile")}
            self.allocated = max(self.allocated, kibibytes["RssAnon"] * 1024)
            self.mapped = max(self.mapped, kibibytes["RssFile"] * 1024)
            time.sleep(0.02)


def measure_one(folder: Path, tokens: int) -> None:
    """What a child process does; its main process prints one line of JSON."""
    started = time.perf_counter()
    memory = PeakMemory()
    memory.start()
    device = training_device()
    words = word_tokenizer(VOCABULARY)
    store = TokenStore(folder, RECIPE.minimum_tokens, words.unk_token_id)
    settings = TeacherTraining(layers=4, heads=4, hidden=128, feed_forward=512, tokens=1)
    teacher = random_model(teacher_config(settings, VOCABULARY, 128), seed=0)
    student = build_student(Shape(layers=2, heads=4, feed_forward=512), teacher, RECIPE, seed=1)
    with tempfile.TemporaryDirectory() as place:
        job = Job(
            name="bench",
            plan=Plan(store, "tokens", RECIPE.batch_size, 1),
            masking=Masking(words, RECIPE.mask_fraction, store.counts(VOCABULARY)),
            recipe=RECIPE.model_copy(update={"amount": tokens}),
            held_out=HeldOut(folder, words, 1),
            checkpoints=Path(place, "checkpoints"),
            fingerprint={"text": store.fingerprint},
            precision=Precision("fp32"),
            checkpoint_seconds=math.inf,
            log_seconds=math.inf,
        )

        def objective(precision: Precision) -> Distillation:
            # Frozen in the precision tried: a copy, or the next one would get what this one has rounded.
            return Distillation(freeze(ready_for(copy.deepcopy(teacher), device), precision.dtype), RECIPE, None)

        precision = tried_precision(student, objective, job, Path(place, "precision.json"))
        state = train(student, objective(precision), replace(job, precision=precision))
    if int(os.environ.get("RANK", "0")) == 0:
        measured = {
            "store_tokens": int(store.lengths.sum()),
            "seconds": time.perf_counter() - started,
            "tokens_per_second": state.tokens_per_second,
            "allocated_bytes": memory.allocated,
            "mapped_bytes": memory.mapped,
        }
        print("RESULT " + json.dumps(measured))


def child(folder: Path, tokens: int, processes: int, threads: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.benchmarks.bench_scaling", "--child", str(folder), "--tokens", str(tokens)]
    if processes > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
        command = [sys.executable, *launcher, *command[1:]]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "ROBBERTJE_THREADS": str(threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"error: a measurement failed\n{done.stderr}")
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    return dict(json.loads(line.removeprefix("RESULT ")))


def rows(corpus: dict[int, dict[str, Any]], processes: dict[int, dict[str, Any]]) -> list[Row]:
    """What grew, by how much."""
    small, large = min(corpus), max(corpus)
    smallest = f"corpus of {corpus[small]['store_tokens'] / 1e6:.1f} million tokens"
    told = [
        Row(
            what=f"{what}, corpus {large} times as large",
            against=smallest,
            at="demo shapes",
            ratio=corpus[large][key] / corpus[small][key],
            interval=None,
            numbers={f"{times}x": corpus[times][key] / scale for times in corpus},
            unit=unit,
        )
        for what, key, scale, unit in (
            ("memory that training allocates", "allocated_bytes", 1e6, "MB"),
            ("mapped pages, which the system may drop", "mapped_bytes", 1e6, "MB"),
            ("speed of training", "tokens_per_second", 1.0, "tokens/s"),
        )
    ]
    speeds = {f"{n} process{'es' if n > 1 else ''}": m["tokens_per_second"] for n, m in processes.items()}
    twice = Row(
        what="training, two processes of one thread",
        against="one process of one thread",
        at="demo shapes",
        ratio=processes[2]["tokens_per_second"] / processes[1]["tokens_per_second"],
        interval=None,
        numbers=speeds,
        unit="tokens/s",
    )
    return [*told, twice]


def main() -> None:
    parser = options(__doc__.splitlines()[0], devices=("cpu",))
    parser.add_argument("--sequences", type=int, default=50_000, help="in the smallest store")
    parser.add_argument("--tokens", type=int, default=200_000, help="each student is trained on")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    given = begin(parser, "tests.benchmarks.bench_scaling")
    if given.child:
        measure_one(given.child, given.tokens)
        return
    threads = torch.get_num_threads()
    corpus, processes = {}, {}
    disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder:
        write_store(Path(folder, "warm"), 5_000, VOCABULARY)
        child(Path(folder, "warm"), min(given.tokens, 50_000), 1, threads)  # files in the system's cache, clocks up
        for times in (1, 4, 16):
            write_store(Path(folder, str(times)), given.sequences * times, VOCABULARY)
            corpus[times] = child(Path(folder, str(times)), given.tokens, 1, threads)
        for number in (1, 2):
            processes[number] = child(Path(folder, "1"), given.tokens, number, 1)
    finish("scaling", given, rows(corpus, processes))


if __name__ == "__main__":
    main()
