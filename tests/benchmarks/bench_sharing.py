"""Training beside other work: the `demo` teacher's own updates on an idle machine, and beside one busy process.

The busy process is at nice 19, once in the session of the training, and once in a session of its own, as one that is
started in another terminal: where the system groups processes by session, as Linux desktops do, niceness does not
count between sessions, and the two share the cores by halves. Each turn is a process of its own, since GNU OpenMP reads
its variables once; ways and places take turns.

The default costs too much if it has less than 0.97 of the speed of PyTorch as it is on an idle machine, and does too
little if it keeps less than 0.6 of that beside the busy process. `--spins` measures other values than the default, to choose by.

Run: python -m tests.benchmarks.bench_sharing [--spins 1000 10000] [--seconds 5] [--rounds 3] [--isa avx2]
"""

import argparse
import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from statistics import median

from transformers import PreTrainedModel

from robbertje_lib.distillation.batching import Masking, Plan, TokenStore
from robbertje_lib.distillation.held_out import HeldOut
from robbertje_lib.distillation.job import Job, TrainingState
from robbertje_lib.distillation.steps import adamw
from robbertje_lib.distillation.teacher import LanguageModelling
from robbertje_lib.distillation.training import make_update
from robbertje_lib.distillation.trial import tried_precision
from robbertje_lib.distillation.updates import PASS_POSITIONS, PassMaker, planned_updates
from robbertje_lib.experiment.profile import TeacherTraining, load_profile
from robbertje_lib.models.devices import Precision, processes, training_device
from robbertje_lib.models.shapes import random_model, ready_for, teacher_config
from tests.benchmarks.frame import Row, begin, finish, options, times_as_fast
from tests.benchmarks.random_text import word_tokenizer, write_store

VOCABULARY = 2000
WARM_UP = 5  # updates
WAYS = {
    "as PyTorch has them": {"GOMP_SPINCOUNT": "300000"},  # GNU OpenMP's own default
    "as we set them": {},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
}
PLACES = ("idle", "busy", "busy in its own session")
NAMES = {
    "idle": "idle",
    "busy": "beside one busy process at nice 19",
    "busy in its own session": "beside one in a session of its own",
}
BUSY = ["nice", "-n", "19", sys.executable, "-c", "while True: pass"]


def measure_one(seconds: float) -> None:
    """What a child process does: updates of the `demo` teacher; it prints tokens per second."""
    device, settings = training_device(), load_profile("demo").teacher
    assert isinstance(settings, TeacherTraining)
    words = word_tokenizer(VOCABULARY)
    own = settings.model_dump(include={"learning_rate", "warmup", "weight_decay", "dropout", "mask_fraction"})
    sizes = {"batch_size": settings.tokens_per_update, "update_size": settings.tokens_per_update}
    recipe = load_profile("demo").recipes["fast"].model_copy(update={"masking": "uniform", **own, **sizes})
    with tempfile.TemporaryDirectory() as folder:
        write_store(Path(folder), 5_000, VOCABULARY)
        store = TokenStore(Path(folder), recipe.minimum_tokens, words.unk_token_id)
        job = Job(
            name="bench",
            plan=Plan(store, "tokens", recipe.batch_size, 1),
            masking=Masking(words, recipe.mask_fraction),
            recipe=recipe,
            held_out=HeldOut(Path(folder), words, 1),
            checkpoints=Path(folder) / "checkpoints",
            fingerprint={},
            precision=Precision("fp32"),
        )
        objective = LanguageModelling(settings.causal_share)
        model = random_model(teacher_config(settings, VOCABULARY, 128), seed=0)
        model = ready_for(model, device).train()
        precision = tried_precision(model, lambda _: objective, job, Path(folder) / "choice.json")
        job = replace(job, precision=precision)
        print(json.dumps(_speed(model, objective, job, seconds)))


def _speed(model: PreTrainedModel, objective: LanguageModelling, job: Job, seconds: float) -> float:
    """Tokens per second of updates in the phase that takes most of the training, masked, after some to warm up."""
    optimizer, team = adamw(model, job.recipe), processes()
    maker = PassMaker(job, 0, 1, PASS_POSITIONS["cpu"])
    tokens, started = 0, math.inf
    for number, update in enumerate(planned_updates(job, objective, TrainingState(), 1)):
        if number == WARM_UP:
            tokens, started = 0, time.perf_counter()
        elif time.perf_counter() - started > seconds:
            break
        masked = update._replace(phase="masked")
        make_update(model, optimizer, objective, job, masked, maker[masked], team)
        tokens += update.tokens
    return tokens / (time.perf_counter() - started)


@contextmanager
def busy_process(own_session: bool) -> Iterator[None]:
    process = subprocess.Popen(BUSY, start_new_session=own_session)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def turn(settings: dict[str, str], place: str, seconds: float) -> float:
    """Tokens per second in a process of its own, which has the settings."""
    environment = {k: v for k, v in os.environ.items() if k not in {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}}
    command = [sys.executable, "-m", "tests.benchmarks.bench_sharing", "--child", "--seconds", str(seconds)]
    with nullcontext() if place == "idle" else busy_process(place != "busy"):
        done = subprocess.run(command, capture_output=True, text=True, env=environment | settings, check=False)
    if done.returncode:
        sys.exit(f"error: a measurement failed\n{done.stderr}")
    return float(json.loads(done.stdout.splitlines()[-1]))


def rows(rates: dict[str, dict[str, list[float]]]) -> list[Row]:
    """The speed of every way in every place, as a share of PyTorch's as it comes on an idle machine."""
    first = next(iter(WAYS))
    told = []
    for way, place in itertools.product(rates, PLACES):
        if (way, place) != (first, PLACES[0]):
            share, interval = times_as_fast(rates[way][place], rates[first][PLACES[0]])
            told.append(
                Row(
                    what=f"training the teacher, threads {way}, {NAMES[place]}",
                    against=f"threads {first}, {NAMES[PLACES[0]]}",
                    at="demo shapes",
                    ratio=share,
                    interval=interval,
                    numbers={"ours": median(rates[way][place]), "theirs": median(rates[first][PLACES[0]])},
                    unit="tokens/s",
                )
            )
    return told


def main() -> None:
    parser = options(__doc__.splitlines()[0], devices=("cpu",))
    parser.add_argument("--seconds", type=float, default=5.0, help="a turn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--spins", type=int, nargs="*", default=[], help="further values of GOMP_SPINCOUNT")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = begin(parser, "tests.benchmarks.bench_sharing")
    if given.child:
        measure_one(given.seconds)
        return
    ways = WAYS | {f"{spins} spins": {"GOMP_SPINCOUNT": str(spins)} for spins in given.spins}
    rates: dict[str, dict[str, list[float]]] = {way: {place: [] for place in PLACES} for way in ways}
    for _, (way, settings), place in itertools.product(range(given.rounds), ways.items(), PLACES):
        rates[way][place].append(turn(settings, place, given.seconds))
    finish("sharing", given, rows(rates), detail={"tokens_per_second": rates})


if __name__ == "__main__":
    main()
