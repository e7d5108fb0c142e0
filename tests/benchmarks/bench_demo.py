"""The whole path as a user waits for it: `make reproduce PROFILE=demo`, each run in a folder of its own.

Settings: `idle`; `avx2`, without the wider instructions; `busy`, beside one busy process at nice 19. Each runs with the
profile's seed and with `--seeds`. Of a run are kept: wall-clock seconds, seconds until its first figure is on disk,
seconds of every stage, the teacher's speed, and what every instrument check planted and read. A finished run is kept in
its folder and not made again, a failed one neither; one that was interrupted begins anew, since half a run is no time. Takes minutes a run.

Run: python -m tests.benchmarks.bench_demo [--kinds idle avx2 busy] [--seeds 1 2 3 4] [--profile demo] [--folder FOLDER]
"""

import argparse
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from robbertje_lib.experiment import paths
from robbertje_lib.experiment.artefacts import remove
from robbertje_lib.experiment.provenance import commit, git_state, read_records
from robbertje_lib.experiment.results.base import Record, ResultFile
from robbertje_lib.experiment.results.claims import ClaimsResult, InstrumentCheck
from robbertje_lib.experiment.results.record import GitState
from robbertje_lib.experiment.results.training import TeacherResult
from tests.benchmarks.frame import INSTRUCTIONS, Row, begin, finish, options

FIGURES = {".svg", ".png"}
KINDS = {
    "idle": "idle",
    "avx2": "idle, AVX2 only",
    "busy": "beside one busy process at nice 19",
}
LOOK_EVERY = 0.5  # seconds


class Stage(Record):
    """Wall-clock seconds, from its record."""

    stage: str
    seconds: float


class WholeRun(ResultFile):
    """One run, `whole_run.json` in its folder. `failed`: the end of what it printed, None where it succeeded."""

    kind: str
    seed: int | None  # None is the profile's own
    git: GitState
    load_before: float  # load average of the minute before; what "idle" was worth
    failed: str | None
    seconds: float
    first_figure: str | None
    first_figure_seconds: float | None
    teacher_tokens_per_second: float | None
    teacher_precision: str | None
    stages: list[Stage]
    instruments: list[InstrumentCheck]

    @property
    def not_passed(self) -> list[str]:
        return [check.instrument for check in self.instruments if not check.passed]

    def line(self) -> str:
        """For the console."""
        name = f"{self.kind:5} seed {self.seed if self.seed is not None else 'own':>3}"
        if self.failed is not None:
            return f"{name}  FAILED after {self.seconds:.0f} s: {self.failed.splitlines()[-1] if self.failed else ''}"
        figure = f"{self.first_figure_seconds:.0f} s" if self.first_figure_seconds is not None else "none"
        passed = len(self.instruments) - len(self.not_passed)
        bad = f" ({', '.join(self.not_passed)})" if self.not_passed else ""
        return f"{name}  {self.seconds:.0f} s, first figure {figure}, load before {self.load_before:.1f}, instruments {passed}/{len(self.instruments)}{bad}"


@contextlib.contextmanager
def busy_process(wanted: bool) -> Iterator[None]:
    """While open, one process that does nothing but compute, at nice 19.

    In our session: the scheduler weighs sessions against each other before it looks at nice.
    """
    if not wanted:
        yield
        return
    process = subprocess.Popen([sys.executable, "-c", "import os\nos.nice(19)\nwhile True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def run_once(kind: str, seed: int | None, given: argparse.Namespace, folder: Path) -> WholeRun:
    """Run everything, in `folder`, and read what it left there."""
    remove(folder)
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "robbertje_lib", "reproduce", "--profile", given.profile]
    command += ["--cores", str(given.cores)] + ([] if seed is None else ["--set", f"seed={seed}"])
    environment = {**os.environ, "ROBBERTJE_OUTPUT": str(folder), **INSTRUCTIONS.get(kind, {})}
    figure, seen, load = None, None, os.getloadavg()[0]
    with busy_process(kind == "busy"), (folder / "console.log").open("w", encoding="utf-8") as log:
        started = time.monotonic()
        process = subprocess.Popen(
            command, cwd=paths.PROJECT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            while process.poll() is None:
                if figure is None and (figure := first_figure(folder)):
                    seen = time.monotonic() - started
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(LOOK_EVERY)
        finally:  # interrupted: it sweeps its own kernels
            process.terminate()
            process.wait()
        seconds = time.monotonic() - started
    failed = (folder / "console.log").read_text(encoding="utf-8")[-2000:] if process.returncode else None
    return read_run(kind, seed, folder, seconds, load, (figure, seen), failed)


def first_figure(folder: Path) -> str | None:
    """The first figure below `folder`, hidden and half-written ones excluded; None where there is none."""
    found = [p for p in (folder / "figures").rglob("[!.]*") if p.suffix in FIGURES]
    return min(found, key=lambda path: path.stat().st_mtime).name if found else None


def read_run(
    kind: str,
    seed: int | None,
    folder: Path,
    seconds: float,
    load: float,
    figure: tuple[str | None, float | None],
    failed: str | None,
) -> WholeRun:
    """What the only run below `folder` recorded; parts that a failed one has not are empty."""
    run = next(iter(sorted((folder / "papermill_runs").glob("[!.]*"))), folder)
    records = read_records(run) if (run / "records").is_dir() else {}
    claims, teacher = run / "results" / "claims.json", run / "results" / "teacher.json"
    trained = TeacherResult.load(teacher) if teacher.is_file() else None
    return WholeRun(
        kind=kind,
        seed=seed,
        git=git_state(),
        load_before=load,
        failed=failed,
        seconds=seconds,
        first_figure=figure[0],
        first_figure_seconds=figure[1],
        teacher_tokens_per_second=trained.tokens_per_second if trained else None,
        teacher_precision=trained.precision.name if trained else None,
        stages=[Stage(stage=name, seconds=record.seconds) for name, record in records.items()],
        instruments=ClaimsResult.load(claims).instruments if claims.is_file() else [],
    )


def rows(runs: list[WholeRun], profile: str) -> list[Row]:
    """A row a kind, over its runs that came through; one that failed is counted and told."""
    made = []
    for kind in dict.fromkeys(run.kind for run in runs):
        whole = [run for run in runs if run.kind == kind and run.failed is None]
        lost = sum(run.kind == kind and run.failed is not None for run in runs)
        checks = [check for run in whole for check in run.instruments]
        bad = sorted({name for run in whole for name in run.not_passed})
        told = f"{sum(check.passed for check in checks)} of {len(checks)} instrument checks passed"
        told += f" (not: {', '.join(bad)})" if bad else ""
        told += f"; {lost} of {lost + len(whole)} RUNS FAILED" if lost else ""
        numbers = {}
        if whole:
            numbers = {"all": median(run.seconds for run in whole), "slowest": max(run.seconds for run in whole)}
            figures = [run.first_figure_seconds for run in whole if run.first_figure_seconds is not None]
            numbers |= {"first figure": median(figures)} if figures else {}
        made.append(
            Row(
                what=f"`make reproduce PROFILE={profile}`, {len(whole)} run{'' if len(whole) == 1 else 's'}",
                against=None,
                at=KINDS[kind],
                ratio=None,
                interval=None,
                numbers=numbers,
                unit="s",
                agreement=told,
            )
        )
    return made


def all_runs(given: argparse.Namespace) -> list[WholeRun]:
    """Every run asked for, those that are kept as they are. Ends the process at one of other code."""
    runs = []
    for kind in given.kinds:
        for seed in [None, *(given.seeds if kind != "busy" else [])]:
            folder = given.folder.absolute() / given.profile / f"{kind}-{'own' if seed is None else seed}"
            kept = folder / "whole_run.json"
            if not kept.is_file():
                run_once(kind, seed, given, folder).save(kept)
            runs.append(WholeRun.load(kept))
            print(runs[-1].line(), flush=True)
            if runs[-1].git != git_state():
                sys.exit(f"error: {kept} was measured at {commit(runs[-1].git)}; delete {given.folder} to start anew")
    return runs


def main() -> None:
    parser = options(__doc__.splitlines()[0], devices=("cpu",))
    parser.add_argument("--profile", default="demo")
    parser.add_argument("--kinds", choices=KINDS, nargs="+", default=list(KINDS))
    parser.add_argument("--seeds", type=int, nargs="*", default=[], help="besides the profile's own; not for busy")
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    parser.add_argument("--folder", type=Path, default=paths.PROJECT / ".cache" / "bench_demo")
    given = begin(parser, "tests.benchmarks.bench_demo")
    try:
        runs = all_runs(given)
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on with the run that was not finished")
    # Its last words name places of this machine; that it failed is said.
    told = [run.model_dump(mode="json") | {"failed": run.failed is not None} for run in runs]
    finish("demo", given, rows(runs, given.profile), detail={"runs": told})


if __name__ == "__main__":
    main()
