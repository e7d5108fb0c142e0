"""What the benchmarks share: options, turns, and the JSON that README's table is made from.

A benchmark writes `docs/benchmarks/<name>.json`, with the kind of processor behind the name where one was asked for
(`distillation-avx2.json`, `training-cuda.json`). `python -m tests.benchmarks.table` puts their rows in README.
"""

import argparse
import importlib.metadata
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import torch
from pydantic import Field

from robbertje_lib.experiment import paths
from robbertje_lib.experiment.provenance import git_state, hardware, python_version
from robbertje_lib.experiment.results.base import Interval, Record, ResultFile
from robbertje_lib.experiment.results.record import GitState

FOLDER = paths.PROJECT / "docs" / "benchmarks"
# As a processor without AVX-512 would compute. The three libraries that multiply read one each, when they are loaded.
INSTRUCTIONS = {
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
}
PACKAGES = ("torch", "transformers", "tokenizers", "accelerate", "numpy", "textbrewer")


class Row(Record):
    """One comparison, or a time alone where `against` is None."""

    what: str
    against: str | None
    at: str  # shapes, or data
    ratio: float | None  # median over rounds; `unit` says of what
    interval: Interval | None  # least and largest over rounds
    numbers: dict[str, float]  # what was measured, by what it is of
    unit: str
    agreement: str | None = None  # how far the results of both sides are apart
    differs: str | None = None  # what the other side does otherwise, where that is more than being slower


class Machine(Record):
    """Where it ran. `instructions`: the widest that PyTorch used."""

    processor: str
    cores: int
    threads: int
    instructions: str
    gpu: str | None
    load_average: float


class Benchmark(ResultFile):
    """One file of `docs/benchmarks/`."""

    name: str
    date: str  # ISO 8601, UTC
    machine: Machine
    python: str
    packages: dict[str, str]
    git: GitState
    settings: dict[str, Any]
    rows: list[Row]
    left_out: dict[str, str]  # what was not measured, and why
    detail: dict[str, Any] = Field(default_factory=dict)  # single runs, where rows sum them up


def options(description: str, devices: Sequence[str] = ("cpu", "cuda")) -> argparse.ArgumentParser:
    """A parser that knows what every benchmark does."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--device", choices=devices, default="cpu")
    parser.add_argument("--isa", choices=INSTRUCTIONS, help="of the processor's instructions use only these")
    parser.add_argument("--output", type=Path, help="default: docs/benchmarks/NAME[-ISA or -cuda].json")
    return parser


def begin(parser: argparse.ArgumentParser, module: str) -> argparse.Namespace:
    """The options given. With `--isa` the benchmark runs anew, and ends, in a process that has only those instructions.

    Ends the process with one line where the device is missing.
    """
    given = parser.parse_args()
    if given.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the library takes a GPU wherever it sees one
    elif not torch.cuda.is_available():
        sys.exit("error: no CUDA device is visible to PyTorch; leave out --device, or DEVICE=cuda of make")
    if given.isa and any(os.environ.get(k) != v for k, v in INSTRUCTIONS[given.isa].items()):
        environment = {**os.environ, **INSTRUCTIONS[given.isa]}
        sys.exit(subprocess.run([sys.executable, "-m", module, *sys.argv[1:]], env=environment, check=False).returncode)
    return given


def finish(
    name: str,
    given: argparse.Namespace,
    rows: list[Row],
    left_out: Mapping[str, str] | None = None,
    detail: Mapping[str, Any] | None = None,
) -> Benchmark:
    """Write the file and print its rows. Places of this machine are no setting."""
    told = {name: value for name, value in vars(given).items() if value is not None and not isinstance(value, Path)}
    done = Benchmark(
        name=name,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine(given.device),
        python=python_version(),
        packages={p: version for p in PACKAGES if (version := installed(p))},
        git=git_state(),
        settings=told,
        rows=rows,
        left_out=dict(left_out or {}),
        detail=dict(detail or {}),
    )
    kind = given.isa or (given.device if given.device != "cpu" else None)
    done.save(given.output or FOLDER / (f"{name}-{kind}.json" if kind else f"{name}.json"))
    for row in rows:
        print(told_in_a_line(row), flush=True)
    for what, why in done.left_out.items():
        print(f"left out: {what}: {why}")
    return done


def instructions() -> str:
    """The widest that PyTorch uses here: `AMX`, `AVX512-BF16`, or its own word, such as `AVX2`."""
    widest = torch.backends.cpu.get_cpu_capability()
    more = {"AMX": torch.cpu._is_amx_tile_supported(), "AVX512-BF16": torch.cpu._is_avx512_bf16_supported()}
    # These two tell what the processor has, whatever PyTorch is told to use of it.
    return next((name for name, there in more.items() if there), widest) if widest == "AVX512" else widest


def multiplies_bfloat16(device: str) -> bool:
    """Whether the hardware does; where a processor does not, a product takes dozens of times as long as in float32."""
    return torch.cuda.is_bf16_supported(False) if device == "cuda" else instructions() in {"AMX", "AVX512-BF16"}


def machine(device: str) -> Machine:
    """This machine as a benchmark on `device` sees it."""
    here = hardware()
    return Machine(
        processor=here.processor,
        cores=here.cores,
        threads=torch.get_num_threads(),
        instructions=instructions(),
        gpu=torch.cuda.get_device_name() if device == "cuda" else None,
        load_average=round(os.getloadavg()[0], 2),
    )


def installed(package: str) -> str | None:
    """Its version, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def turn_by_turn(ways: Mapping[str, Callable[[], object]], rounds: int, device: str) -> dict[str, list[float]]:
    """Seconds of each way in each round, after one to warm up: a load peak falls on all ways alike."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds + 1):
        for way, run in ways.items():
            synchronise(device)
            started = time.perf_counter()
            run()
            synchronise(device)
            seconds[way].append(time.perf_counter() - started)
    return {way: values[1:] for way, values in seconds.items()}


def synchronise(device: str) -> None:
    """Wait until the device has done what it was told."""
    if device == "cuda":
        torch.cuda.synchronize()


def times_as_fast(theirs: Sequence[float], ours: Sequence[float]) -> tuple[float, Interval]:
    """Median, least and largest ratio of seconds, round by round."""
    ratios = [t / o for t, o in zip(theirs, ours, strict=True)]
    return median(ratios), (min(ratios), max(ratios))


def told_in_a_line(row: Row) -> str:
    """For the console."""
    numbers = ", ".join(f"{name} {value:,.4g}" for name, value in row.numbers.items())
    against = f" against {row.against}" if row.against else ""
    agreement = f"; {row.agreement}" if row.agreement else ""
    return f"{row.what}{against}, {row.at}: {ratio_in_words(row)} [{numbers}]{agreement}"


def ratio_in_words(row: Row) -> str:
    """`4.15 times the tokens/s (3.94 to 4.34)`, or the numbers where there is no ratio."""
    if row.ratio is None:
        return ", ".join(
            f"{name}: {number(value)} {row.unit}".strip() if len(row.numbers) > 1 else f"{number(value)} {row.unit}"
            for name, value in row.numbers.items()
        )
    span = f" ({row.interval[0]:.2f} to {row.interval[1]:.2f})" if row.interval else ""
    return f"{row.ratio:.2f} times the {row.unit}{span}"


def number(value: float) -> str:
    """Three digits, thousands apart."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
