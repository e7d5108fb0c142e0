"""What `make reproduce` says: the plan with estimates, a line per stage and a bar, and at the end what was made."""

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.profile import LAST_STAGE
from robbertje_lib.experiment.provenance import hardware, read_records
from robbertje_lib.experiment.results.claims import ClaimsResult, failed
from robbertje_lib.experiment.results.record import Hardware
from robbertje_lib.experiment.run import Run
from robbertje_lib.experiment.words import clock, duration, gigabytes, short
from robbertje_lib.show import figures

HEARTBEAT = 300  # seconds between lines while a long stage runs and nobody watches a terminal
BAR = 20  # characters


@dataclass(frozen=True)
class Planned:
    """A stage that will run, and why; or that will be taken over, and from which run."""

    stage: str
    reason: str
    taken_from: str | None = None


@dataclass(frozen=True)
class Earlier:
    """How long a stage took on this machine, and in which run."""

    seconds: float
    run_name: str


def earlier_times(run: Run, stages: Sequence[str]) -> dict[str, Earlier]:
    """For each stage that has run on this machine before: its latest time in this run, or else in the nearest other.

    Nearest is the run whose name begins most alike (`demo` for `demo_seeds_5`), and of those the latest. Nothing is
    scaled. A stage that never ran is left out.
    """
    machine = _machine(hardware())
    nearest: dict[str, tuple[tuple[int, str], Earlier]] = {}
    for folder in run.paths.run.parent.glob("*/records"):
        name = folder.parent.name
        try:
            records = read_records(folder.parent)
        except UserError:
            continue  # an estimate is not worth an error; `verify` tells of damaged records
        for stage in set(stages) & set(records):
            record = records[stage]
            if _machine(record.hardware) != machine:
                continue
            rank = (_alike(name, run.paths.run_name), record.started)
            if stage not in nearest or rank > nearest[stage][0]:
                nearest[stage] = rank, Earlier(record.seconds, name)
    return {stage: earlier for stage, (_, earlier) in nearest.items()}


def _alike(name: str, other: str) -> int:
    """How many characters two names have in common from the start, their ends counted."""
    pairs = enumerate(zip(f"{name}\0", f"{other}\0", strict=False))
    return next((place for place, (a, b) in pairs if a != b), len(name) + 1)


def _machine(machine: Hardware) -> tuple[str, int, list[str]]:
    return machine.processor, machine.cores, machine.gpus


def announce(
    run: Run, planned: Sequence[Planned], before: Mapping[str, Earlier], cores: int, needed: int, free: int
) -> None:
    """Print the plan. needed, free: bytes on disk."""
    profile = run.profile
    print(f"{profile.stamp[0].upper()}{profile.stamp[1:]} on {cores} cores, into {short(run.paths.run)}")
    if profile.trained:
        students = len({profile.student_of(model) for model in profile.trained})
        print(f"{students} students, {len(profile.trained)} distillations")
    print(f"disk: about {gigabytes(needed)} needed in all, {gigabytes(free)} free")
    if not planned:
        print("Nothing to run: every stage is up to date.")
        return
    taken = sum(entry.taken_from is not None for entry in planned)
    others = f", {taken} of them by taking over what another run has made" if taken else ""
    print(f"{len(planned)} stage{'s' if len(planned) > 1 else ''} to run{others}:")
    for entry in planned:
        earlier = before.get(entry.stage)
        if entry.taken_from:
            print(f"  {entry.stage:<44} taken from {entry.taken_from}")
            continue
        if earlier is None:
            told = "no estimate"
        else:
            where = "last time" if earlier.run_name == run.paths.run_name else f"in {earlier.run_name}"
            told = f"took {duration(earlier.seconds)} {where}"
        print(f"  {entry.stage:<44} {entry.reason} ({told})")
    known = [before[entry.stage].seconds for entry in planned if entry.stage in before]
    if known:
        which = "These" if len(known) == len(planned) - taken else f"{len(known)} of these"
        print(f"{which} took {duration(sum(known))} in all before.")
    sys.stdout.flush()


@dataclass
class StageProgress:
    """What is running, what is done, and a line about each change."""

    planned: Sequence[Planned]
    before: Mapping[str, Earlier]
    began: float = field(default_factory=time.monotonic)
    running: dict[str, float] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    error: str | None = None
    told: float = field(default_factory=time.monotonic)

    def start(self, stage: str) -> None:
        """A stage runs."""
        self.running[stage] = time.monotonic()
        self.say(f"{stage} ...")

    def finish(self, stage: str, seconds: float, taken_from: str | None) -> None:
        """A stage is done: it took so many seconds, or was taken over from another run."""
        self.running.pop(stage, None)
        self.done.add(stage)
        done, total = len(self.done), len(self.planned)
        how = f"taken from {taken_from}" if taken_from else f"done in {duration(seconds)}"
        self.say(f"{stage} {how}; {done} of {total} done, {total - done} left")

    def fail(self, stage: str, error: str | None) -> None:
        """A stage failed. error: why, in one line; None where it could not say."""
        self.running.pop(stage, None)
        self.error = error or self.error
        self.say(f"{stage} failed")

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self.told = time.monotonic()
        print(f"{self._clear()}[{clock(self.told - self.began)}] {line}", flush=True)

    def wait(self) -> None:
        """Between events: a live line in a terminal, otherwise a line now and then."""
        now = time.monotonic()
        what = ", ".join(f"{stage} for {clock(now - since)}" for stage, since in self.running.items())
        if sys.stdout.isatty():
            line = f"[{clock(now - self.began)}] {self.bar(now)} {what}"
            print(f"{self._clear()}{line[: shutil.get_terminal_size().columns - 1]}", end="", flush=True)
        elif what and now - self.told > HEARTBEAT:
            self.say(f"still at {what}")

    def bar(self, now: float) -> str:
        """`[####      ] 3 of 10, about 2 min left`: by stages, or by time where every stage has run before."""
        total = len(self.planned)
        share, left = len(self.done) / total, ""
        times = {entry.stage: self.before[entry.stage].seconds for entry in self.planned if entry.stage in self.before}
        times |= {entry.stage: 0.0 for entry in self.planned if entry.taken_from}
        if len(times) == total:
            whole = sum(times.values())
            ahead = sum(
                max(seconds - (now - self.running.get(stage, now)), 0)
                for stage, seconds in times.items()
                if stage not in self.done
            )
            share, left = 1 - ahead / whole if whole else share, f", about {duration(ahead)} left"
        return f"[{'#' * round(BAR * share):<{BAR}}] {len(self.done)} of {total}{left}"

    def close(self) -> None:
        """Take the live line away."""
        print(self._clear(), end="", flush=True)

    def _clear(self) -> str:
        return "\r\033[K" if sys.stdout.isatty() else ""


def conclude(run: Run, seconds: float, wanted: Sequence[str]) -> None:
    """Print what was made for the stages `wanted`, where, how long it took, and what to look at first."""
    print(f"Finished in {duration(seconds)}. Notebooks and results: {short(run.paths.run)}")
    if LAST_STAGE not in wanted:
        print(f"Look first at {', '.join(short(run.paths.notebook(stage)) for stage in wanted)}")
        return
    print(f"Look first at {short(run.paths.figures / 'report.html')}")
    drawn = figures.expected(run.profile)
    print(f"{len(drawn)} figures (SVG and PNG) in {short(run.paths.figures)}: {', '.join(drawn)}")
    if run.profile.text == "known_answer" and (wrong := failed(ClaimsResult.read(run).instruments)):
        print(f"warning: these instruments did not read back the known answer: {', '.join(wrong)}", file=sys.stderr)
