"""`make reproduce` and `make plan`: says what will run and why, runs it through Snakemake, shows how far it is."""

import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from robbertje_lib.corpus.arms import check_arms
from robbertje_lib.experiment import artefacts, paths
from robbertje_lib.experiment.errors import UserError, did_you_mean
from robbertje_lib.experiment.profile import Profile, TeacherTraining
from robbertje_lib.experiment.run import Run, open_run
from robbertje_lib.experiment.words import gigabytes, short
from robbertje_lib.tasks import check_tasks
from robbertje_lib.workflow.processes import project_environment
from robbertje_lib.workflow.progress import Earlier, Planned, Progress, announce, conclude, earlier_times

# Snakemake, ending with this process: a killed `make reproduce` must not go on unseen.
SNAKEMAKE = (
    "import os, runpy; from robbertje_lib.workflow.processes import die_with_parent; die_with_parent({parent});"
    "runpy.run_module('snakemake', run_name='__main__', alter_sys=True)"
)
FULL = 1_000_000  # bytes; with fewer free a disk is full
POLL = 0.2  # seconds between looks at the events


def plan(profile: str, budget: float, cores: int, until: str = "") -> int:
    """Print what `reproduce` would run. Returns the exit status. Raises `UserError` for a bad profile or stage."""
    run = _open(profile, budget)
    _announce(run, planned_stages(run, profile, budget, cores, aims(run, until)), cores)
    return 0


def reproduce(profile: str, budget: float, cores: int, until: str = "") -> int:
    """Run every stage that is not up to date, and say how far it is. Returns the exit status.

    until: a stage, or a notebook that stands for all of its stages; with it only these run, and what they need.
    Raises `UserError` for a bad profile or stage, an output folder that cannot be written, too little disk space, or
    a second run of the same profile.
    """
    began = time.monotonic()
    run = _open(profile, budget)
    wanted = aims(run, until)
    with alone(run):
        _sweep(run)
        _settle_dates(run)
        planned = planned_stages(run, profile, budget, cores, wanted)
        before = _announce(run, planned, cores)
        if planned:
            _check_disk(run.profile, run.paths.root)
            if not _execute(run, profile, budget, cores, wanted, Progress(planned, before, began)):
                return 1
        conclude(run, time.monotonic() - began, wanted)
    return 0


def aims(run: Run, until: str) -> list[str]:
    """The stages that `until` names, or all of them. Raises `UserError` if there is no such stage."""
    stages = run.profile.stages
    if not until:
        return stages
    if found := [stage for stage in stages if until in {stage, stage.partition("-")[0]}]:
        return found
    notebooks = {stage.partition("-")[0] for stage in stages}
    raise UserError(f"UNTIL {until}: no such stage: {did_you_mean(until, notebooks | set(stages))}")


def planned_stages(run: Run, profile: str, budget: float, cores: int, wanted: Sequence[str] = ()) -> list[Planned]:
    """What Snakemake would run for the stages wanted (all, if none is named). Raises `UserError` if it cannot tell."""
    result = subprocess.run(
        [*_command(run, profile, budget, cores, wanted), "--dry-run"],
        env=project_environment(),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    said = result.stdout + result.stderr
    if result.returncode:
        log = run.paths.run / "snakemake.log"
        log.write_text(said, encoding="utf-8")
        fault = re.search(r"^.*(?:Error|Exception)\b.*\n.*", said, flags=re.MULTILINE)
        raise UserError(f"cannot plan the stages: {fault[0] if fault else 'Snakemake failed'} (see {log})")
    jobs = re.findall(r"^Job \d+: (.+)\nReason: (.+)$", said, flags=re.MULTILINE)
    return sorted((Planned(stage, _why(reason)) for stage, reason in jobs), key=lambda planned: planned.stage)


def _why(reason: str) -> str:
    """Snakemake's reason in the user's words."""
    known = {
        "Missing output files": "not made yet",
        "Params have changed": "the profile changed",
        "Code has changed": "the Snakefile changed",
        "Incomplete": "was interrupted",
    }
    told = []
    for part in reason.split("; "):
        if part.startswith("Updated input files: "):
            changed = [Path(name).name for name in part.partition(": ")[2].split(", ")]
            told.append(f"changed: {', '.join(changed[:3])}{' ...' if len(changed) > 3 else ''}")
        told += [words for start, words in known.items() if part.startswith(start)]
    return "; ".join(dict.fromkeys(told)) or "what it reads will change"


def _command(run: Run, profile: str, budget: float, cores: int, wanted: Sequence[str]) -> list[str]:
    return [
        sys.executable, "-c", SNAKEMAKE.format(parent=os.getpid()),
        "--snakefile", str(paths.PROJECT / "Snakefile"),
        "--directory", str(run.paths.run),
        "--config", f"profile={json.dumps(profile)}", f"budget={budget!r}",
        "--cores", str(cores),
        # Not `input`: a project that is moved keeps its results. No checksums: a touched file is a changed file.
        "--rerun-triggers", "mtime", "params", "code",
        "--max-checksum-file-size", "0",
        # Our own lock (`alone`) ends with its process, Snakemake's does not.
        "--nolock", "--rerun-incomplete",
        "--scheduler", "greedy", "--nocolor",
        *(run.paths.record(stage).relative_to(run.paths.run).as_posix() for stage in wanted),
    ]  # fmt: skip


def _open(profile: str, budget: float) -> Run:
    run = open_run(profile, budget)
    check_arms(run.profile)
    check_tasks(run.profile.finetuning.tasks)
    try:
        run.paths.run.mkdir(parents=True, exist_ok=True)
        run.paths.figures.mkdir(parents=True, exist_ok=True)
        for folder in (run.paths.run, run.paths.figures):
            probe = folder / ".writable"
            probe.touch()
            probe.unlink()
    except OSError as error:
        raise UserError(
            f"cannot write below {run.paths.root}: {error.strerror}; set ROBBERTJE_OUTPUT to another folder"
        ) from None
    return run


@contextlib.contextmanager
def alone(run: Run) -> Iterator[None]:
    """Hold the run's lock, which the operating system takes back whenever this process ends."""
    with (run.paths.run / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{run.paths.run_name} is already being run; wait for it, or stop it first") from None
        yield


def _sweep(run: Run) -> None:
    """Remove what a killed process left half-written; nothing else uses these names, and nobody else runs."""
    for folder in (run.paths.run, run.paths.figures):
        for pattern in (".*.tmp", ".*.running.ipynb"):
            for leftover in list(folder.rglob(pattern)):
                artefacts.remove(leftover)


def _settle_dates(run: Run) -> None:
    """Files dated in the future, as after a clock was set back, would make every stage that reads them fail."""
    folders = [run.paths.run, run.paths.figures, paths.NOTEBOOKS, paths.PACKAGE]
    files = [*run.profile.corpus.own_files(), *(file for folder in folders for file in folder.rglob("*"))]
    if ahead := artefacts.settle_dates(files):
        print(f"{len(ahead)} files were dated in the future, and are now dated today: {ahead[0].name} ...", flush=True)


def disk_needed(profile: Profile) -> int:
    """Bytes a run takes, roughly: token stores, models, and the checkpoints of the training that is under way."""
    trained = isinstance(profile.teacher, TeacherTraining)
    stores = len(profile.arms) + 4 * trained  # the teacher's text is that of four arms
    text = stores * profile.corpus.arm_megabytes * 1e6 * 3  # the lines, four bytes a token, temporary copies
    if isinstance(profile.teacher, TeacherTraining):
        width = profile.teacher.hidden
        weights = (profile.tokenizer.vocabulary + 12 * profile.teacher.layers * width) * width * 4
    else:
        weights = 500_000_000
    return int(text + weights * (len(profile.models) + 2 * 3))


def _check_disk(profile: Profile, root: Path) -> None:
    needed, free = disk_needed(profile), shutil.disk_usage(root).free
    if needed > free:
        raise UserError(
            f"{root}: {gigabytes(free)} free, about {gigabytes(needed)} needed; free some, or set ROBBERTJE_OUTPUT"
        )


def _announce(run: Run, planned: Sequence[Planned], cores: int) -> dict[str, Earlier]:
    """Print the plan; returns the times of earlier runs."""
    before = earlier_times(run, [entry.stage for entry in planned])
    announce(run, planned, before, cores, disk_needed(run.profile), shutil.disk_usage(run.paths.root).free)
    return before


def _execute(run: Run, profile: str, budget: float, cores: int, wanted: Sequence[str], progress: Progress) -> bool:
    """Run Snakemake to its end. Returns whether all went well; if not, the error has been printed."""
    log, events = run.paths.run / "snakemake.log", run.paths.run / "events.jsonl"
    events.write_text("")
    with log.open("w", encoding="utf-8") as stream, events.open(encoding="utf-8") as news:
        snakemake = subprocess.Popen(
            _command(run, profile, budget, cores, wanted),
            env=project_environment(),
            stdout=stream,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
        try:
            over = False
            while not over:
                over = snakemake.poll() is not None  # before the last look at the events, not after it
                for line in _whole_lines(news):
                    progress.take(json.loads(line))
                if not over:
                    progress.wait()
                    time.sleep(POLL)
        except KeyboardInterrupt:
            snakemake.terminate()
            snakemake.wait()
            raise UserError("stopped; what is done is kept, and the same command goes on from here") from None
    progress.close()
    if snakemake.returncode:
        reason = progress.error or f"Snakemake ended with status {snakemake.returncode}; see {short(log)}"
        if shutil.disk_usage(run.paths.root).free < FULL:  # too full even for the stage to say so
            reason = f"{run.paths.root}: no space left; {artefacts.MAKE_ROOM}"
        print(f"error: {reason}", file=sys.stderr)
        print(f"{len(progress.done)} stages are done and kept; the same command goes on from here.", file=sys.stderr)
        return False
    return True


def _whole_lines(stream: Any) -> Iterator[str]:
    """Complete lines that have been appended; half a line waits for its rest."""
    while True:
        position = stream.tell()
        line = stream.readline()
        if not line.endswith("\n"):
            stream.seek(position)
            return
        yield line
