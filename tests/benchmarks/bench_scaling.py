"""Distillation's time and memory as the corpus grows 16 times, and as one process becomes two.

Every measurement is a process of its own that opens a token store of random sequences and trains a `demo`-shaped
student for the same number of tokens. Memory is split in what the process allocated and what it sees of the mapped
store, which the system may drop at any time. With two processes each has one thread; one process has one, too.

Run: python -m tests.benchmarks.bench_scaling [--sequences 100000] [--tokens 200000] [--output bench_scaling.json]
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, Features, List, Value, disable_progress_bars
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from robbertje_lib.distillation.batching import Masking, Plan, TokenStore
from robbertje_lib.distillation.held_out import HeldOut
from robbertje_lib.distillation.job import Job
from robbertje_lib.distillation.student import Distillation
from robbertje_lib.distillation.training import train
from robbertje_lib.experiment.profile import Shape, TeacherTraining, load_profile
from robbertje_lib.models.devices import choose_precision, training_device
from robbertje_lib.models.shapes import build_student, freeze, random_model, ready_for, teacher_config

VOCABULARY = 2000
SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
# Two batches an update, so that two processes have one each.
RECIPE = (
    load_profile("demo")
    .recipes["fast"]
    .model_copy(update={"initialisation": "random", "batch_size": 1024, "update_size": 2048})
)


def write_store(folder: Path, sequences: int) -> None:
    """A token store of random sequences, 80 % of them below 35 tokens."""

    def rows() -> Any:
        rng = np.random.default_rng(0)
        for length in np.clip(np.exp(rng.normal(math.log(23), 0.5, sequences)), 12, 126).astype(int):
            yield {"input_ids": [0, *rng.integers(5, VOCABULARY, length - 2).tolist(), 2]}

    with tempfile.TemporaryDirectory() as cache:
        features = Features({"input_ids": List(Value("int32"))})
        Dataset.from_generator(rows, features=features, cache_dir=cache).save_to_disk(str(folder))


def tokenizer() -> PreTrainedTokenizerFast:
    words = SPECIALS + [f"w{i}" for i in range(VOCABULARY - len(SPECIALS))]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    names = {"pad": "<pad>", "unk": "<unk>", "cls": "<s>", "sep": "</s>", "mask": "<mask>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **{f"{k}_token": v for k, v in names.items()})


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
    words = tokenizer()
    store = TokenStore(folder, RECIPE.minimum_tokens, words.unk_token_id)
    settings = TeacherTraining(layers=4, heads=4, hidden=128, feed_forward=512, tokens=1)
    teacher = random_model(teacher_config(settings, VOCABULARY, 128), seed=0)
    student = build_student(Shape(layers=2, heads=4, feed_forward=512), teacher, RECIPE, seed=1)
    precision = choose_precision(device)
    with tempfile.TemporaryDirectory() as checkpoints:
        job = Job(
            name="bench",
            plan=Plan(store, "tokens", RECIPE.batch_size, 1),
            masking=Masking(words, RECIPE.mask_fraction, store.counts(VOCABULARY)),
            recipe=RECIPE.model_copy(update={"amount": tokens}),
            held_out=HeldOut(folder, words, 1),
            checkpoints=Path(checkpoints),
            fingerprint={"text": store.fingerprint},
            precision=precision,
            checkpoint_seconds=math.inf,
            log_seconds=math.inf,
        )
        state = train(student, Distillation(freeze(ready_for(teacher, device), precision.dtype), RECIPE, None), job)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sequences", type=int, default=50_000, help="in the smallest store")
    parser.add_argument("--tokens", type=int, default=200_000, help="each student is trained on")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=Path("bench_scaling.json"))
    a = parser.parse_args()
    if a.child:
        measure_one(a.child, a.tokens)
        return
    result: dict[str, Any] = {"benchmark": "scaling", "tokens": a.tokens, "corpus": {}, "processes": {}}
    threads = torch.get_num_threads()
    disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder:
        write_store(Path(folder, "warm"), 5_000)
        child(Path(folder, "warm"), 50_000, 1, threads)  # files in the system's cache, clocks up
        print(f"{'corpus':>8}{'tokens':>14}{'seconds':>9}{'tokens/s':>10}{'allocated':>12}{'mapped':>11}")
        for times in (1, 4, 16):
            store = Path(folder, str(times))
            write_store(store, a.sequences * times)
            measured = result["corpus"][times] = child(store, a.tokens, 1, threads)
            print(
                f"{times:>7}x{measured['store_tokens']:14,}{measured['seconds']:9.1f}{measured['tokens_per_second']:10,.0f}"
                f"{measured['allocated_bytes'] / 1e6:9,.0f} MB{measured['mapped_bytes'] / 1e6:8,.0f} MB",
                flush=True,
            )
        for processes in (1, 2):
            measured = result["processes"][processes] = child(Path(folder, "1"), a.tokens, processes, 1)
            print(
                f"{processes} process{'es' if processes > 1 else '':2} of one thread {measured['tokens_per_second']:10,.0f} tokens/s"
            )
    a.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
