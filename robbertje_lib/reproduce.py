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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robbertje_lib import artefacts, paths
from robbertje_lib.errors import UserError
from robbertje_lib.instruments import failed
from robbertje_lib.processes import project_environment
from robbertje_lib.profile import Profile, TeacherTraining
from robbertje_lib.run import Run, open_run

# Snakemake, ending with this process: a killed `make reproduce` must not go on unseen.
SNAKEMAKE = (
    "import os, runpy; from robbertje_lib.processes import die_with_parent; die_with_parent({parent});"
    "runpy.run_module('snakemake', run_name='__main__', alter_sys=True)"
)
POLL = 0.2  # seconds between looks at the events
HEARTBEAT = 300  # seconds between lines while a long stage runs and nobody watches a terminal


@dataclass(frozen=True)
class Planned:
    """A stage that will run, and why."""

    stage: str
    reason: str


def plan(profile: str, budget: float, cores: int) -> int:
    """Print what `reproduce` would run. Returns the exit status. Raises `UserError` for a bad profile."""
    run = _open(profile, budget)
    _announce(run, planned_stages(run, profile, budget, cores), cores)
    return 0


def reproduce(profile: str, budget: float, cores: int) -> int:
    """Run every stage that is not up to date, and say how far it is. Returns the exit status.

    Raises `UserError` for a bad profile, an output folder that cannot be written, too little disk space, or a
    second run of the same profile.
    """
    began = time.monotonic()
    run = _open(profile, budget)
    with _alone(run):
        _sweep(run)
        planned = planned_stages(run, profile, budget, cores)
        _announce(run, planned, cores)
        if planned:
            _check_disk(run.profile, run.paths.root)
            if not _execute(run, profile, budget, cores, planned, began):
                return 1
        _conclude(run, time.monotonic() - began)
    return 0


def planned_stages(run: Run, profile: str, budget: float, cores: int) -> list[Planned]:
    """What Snakemake would run, in its order. Raises `UserError` if it cannot tell."""
    result = subprocess.run(
        _command(run, profile, budget, cores, "--dry-run"),
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


def _command(run: Run, profile: str, budget: float, cores: int, *more: str) -> list[str]:
    return [
        sys.executable, "-c", SNAKEMAKE.format(parent=os.getpid()),
        "--snakefile", str(paths.PROJECT / "Snakefile"),
        "--directory", str(run.paths.run),
        "--config", f"profile={json.dumps(profile)}", f"budget={budget!r}",
        "--cores", str(cores),
        # Not `input`: a project that is moved keeps its results. No checksums: a touched file is a changed file.
        "--rerun-triggers", "mtime", "params", "code",
        "--max-checksum-file-size", "0",
        # Our own lock (`_alone`) ends with its process, Snakemake's does not.
        "--nolock", "--rerun-incomplete",
        "--scheduler", "greedy", "--nocolor",
        *more,
    ]  # fmt: skip


def _open(profile: str, budget: float) -> Run:
    run = open_run(profile, budget)
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
def _alone(run: Run) -> Iterator[None]:
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


def disk_needed(profile: Profile) -> int:
    """Bytes a run takes, roughly: token stores, models, and the checkpoints of the training that is under way."""
    text = len(profile.arms) * profile.corpus.arm_megabytes * 1e6 * 3  # the lines, four bytes a token, temporary copies
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
            f"{root}: {_gigabytes(free)} free, about {_gigabytes(needed)} needed; free some, or set ROBBERTJE_OUTPUT"
        )


def _announce(run: Run, planned: Sequence[Planned], cores: int) -> None:
    profile = run.profile
    free = shutil.disk_usage(run.paths.root).free
    print(f"{profile.stamp[0].upper()}{profile.stamp[1:]} on {cores} cores, into {_short(run.paths.run)}")
    print(f"disk: about {_gigabytes(disk_needed(profile))} needed in all, {_gigabytes(free)} free")
    if not planned:
        print("Nothing to run: every stage is up to date.")
        return
    print(f"{len(planned)} stages to run:")
    for entry in planned:
        seconds = _seconds_before(run, entry.stage)
        print(f"  {entry.stage:<44} {entry.reason}{'' if seconds is None else f' (took {duration(seconds)} before)'}")
    sys.stdout.flush()


def _seconds_before(run: Run, stage: str) -> float | None:
    try:
        return float(artefacts.read_json(run.paths.record(stage))["seconds"])
    except UserError:
        return None


@dataclass
class _Progress:
    """What is running, what is done, and a line about each change."""

    planned: Sequence[Planned]
    began: float
    running: dict[str, float] = field(default_factory=dict)
    done: int = 0
    error: str | None = None
    told: float = field(default_factory=time.monotonic)

    def take(self, event: dict[str, Any]) -> None:
        stage, total = event["stage"], len(self.planned)
        if event["event"] == "started":
            self.running[stage] = time.monotonic()
            self.say(f"{stage} ...")
        elif event["event"] == "finished":
            self.running.pop(stage, None)
            self.done += 1
            self.say(
                f"{stage} done in {duration(event['seconds'])}; {self.done} of {total} done, {total - self.done} left"
            )
        else:
            self.running.pop(stage, None)
            self.error = event["error"]
            self.say(f"{stage} failed")

    def say(self, line: str) -> None:
        self.told = time.monotonic()
        clear = "\r\033[K" if sys.stdout.isatty() else ""
        print(f"{clear}[{clock(self.told - self.began)}] {line}", flush=True)

    def wait(self) -> None:
        """Between events: a live line in a terminal, otherwise a line now and then."""
        now = time.monotonic()
        what = ", ".join(f"{stage} for {clock(now - since)}" for stage, since in self.running.items())
        if sys.stdout.isatty():
            bar = f"{'#' * (20 * self.done // len(self.planned)):<20}"
            print(
                f"\r\033[K[{clock(now - self.began)}] [{bar}] {what}"[: shutil.get_terminal_size().columns + 3],
                end="",
                flush=True,
            )
        elif what and now - self.told > HEARTBEAT:
            self.say(f"still at {what}")


def _execute(run: Run, profile: str, budget: float, cores: int, planned: Sequence[Planned], began: float) -> bool:
    """Run Snakemake to its end. Returns whether all went well; if not, the error has been printed."""
    log, events = run.paths.run / "snakemake.log", run.paths.run / "events.jsonl"
    events.write_text("")
    progress = _Progress(planned, began)
    with log.open("w", encoding="utf-8") as stream, events.open(encoding="utf-8") as news:
        snakemake = subprocess.Popen(
            _command(run, profile, budget, cores),
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
    if sys.stdout.isatty():
        print("\r\033[K", end="")
    if snakemake.returncode:
        reason = progress.error or f"Snakemake ended with status {snakemake.returncode}; see {_short(log)}"
        print(f"error: {reason}", file=sys.stderr)
        print(f"{progress.done} stages are done and kept; the same command goes on from here.", file=sys.stderr)
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


def _conclude(run: Run, seconds: float) -> None:
    figures = sorted(path.stem for path in run.paths.figures.glob("*.svg"))
    report = run.paths.figures / "report.html"
    print(f"Finished in {duration(seconds)}. Notebooks and results: {_short(run.paths.run)}")
    if report.exists():
        print(f"Look first at {_short(report)}")
    if figures:
        print(f"{len(figures)} figures (SVG and PNG) in {_short(run.paths.figures)}: {', '.join(figures)}")
    claims = run.paths.result("claims.json")
    if run.profile.text == "known_answer" and (wrong := failed(artefacts.read_json(claims)["instruments"])):
        print(f"warning: these instruments did not read back the known answer: {', '.join(wrong)}", file=sys.stderr)


def _short(path: Path) -> str:
    """A path as the user would type it from here."""
    shown = os.path.relpath(path)
    return str(path) if shown.startswith("..") else shown


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"


def duration(seconds: float) -> str:
    """`7 s`, `3 min 5 s` or `2 h 11 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def clock(seconds: float) -> str:
    """`0:03:05`."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"
