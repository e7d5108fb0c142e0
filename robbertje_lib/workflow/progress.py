"""What `make reproduce` says: the plan with estimates, a line per stage and a bar, and at the end what was made."""

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from robbertje_lib.experiment import paths
from robbertje_lib.experiment.heartbeat import listen
from robbertje_lib.experiment.profile import LAST_STAGE
from robbertje_lib.experiment.results.claims import ClaimsResult, failed
from robbertje_lib.experiment.run import Run
from robbertje_lib.experiment.words import about, clock, duration, gigabytes, short
from robbertje_lib.show import figures
from robbertje_lib.workflow.estimates import Estimate

EVERY = 60  # seconds between lines while a stage runs and nobody watches a terminal
BAR = 20  # characters


@dataclass(frozen=True)
class Planned:
    """A stage that will run, and why; or that will be taken over, and from which run."""

    stage: str
    reason: str
    taken_from: str | None = None
    machine: float = 1.0  # the share of its cores that the stage takes


def announce(
    run: Run, planned: Sequence[Planned], expected: Mapping[str, Estimate], cores: int, needed: int, free: int
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
        if entry.taken_from:
            print(f"  {entry.stage:<44} taken from {entry.taken_from}")
        else:
            print(f"  {entry.stage:<44} {entry.reason} ({expected[entry.stage].words})")
    if taken < len(planned):
        print(_total(planned, expected))
    sys.stdout.flush()


def _total(planned: Sequence[Planned], expected: Mapping[str, Estimate]) -> str:
    """How long it will take in all, as far as that is known."""
    times = [(entry, expected[entry.stage].seconds) for entry in planned if not entry.taken_from]
    known = [entry.machine * seconds for entry, seconds in times if seconds is not None]
    if not known:
        return "How long it will take in all is not known."
    if len(known) == len(times):
        return f"In all {about(sum(known))}."
    return f"In all {about(sum(known))} for {len(known)} of these; the others have no estimate."


@dataclass
class StageProgress:
    """What is running and how far, what is done, and a line about each change.

    folder: of the run, where its stages tell how far they are.
    """

    planned: Sequence[Planned]
    expected: Mapping[str, Estimate]
    folder: Path
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
        """Between events: a live line in a terminal, otherwise a line once a minute."""
        now = time.monotonic()
        if sys.stdout.isatty():
            line = f"[{clock(now - self.began)}] {self.bar(now)} {self._at(now)}"
            print(f"{self._clear()}{line[: shutil.get_terminal_size().columns - 1]}", end="", flush=True)
        elif self.running and now - self.told >= EVERY:
            self.say(self._at(now))

    def _at(self, now: float) -> str:
        """`20_teacher 24 % (34 min left)` by the stage's own account; before it gives one, how long it has run."""
        told = []
        for stage, since in self.running.items():
            heard = listen(paths.heartbeat(self.folder, stage))
            how = (
                f"{100 * heard.share:.0f} % ({_roughly(heard.left)} left)" if heard else f"for {duration(now - since)}"
            )
            told.append(f"{stage} {how}")
        return ", ".join(told)

    def bar(self, now: float) -> str:
        """`[####      ] 3 of 10, about 2 min left`: by time, where every stage that is left has an estimate.

        What a running stage itself says is left goes before what was expected.
        """
        total = len(self.planned)
        share, left = len(self.done) / total, ""
        times = {entry: 0.0 if entry.taken_from else self.expected[entry.stage].seconds for entry in self.planned}
        known = {entry: entry.machine * seconds for entry, seconds in times.items() if seconds is not None}
        if all(entry in known or entry.stage in self.done for entry in self.planned):
            ahead = sum(self._ahead(entry, now) for entry in known if entry.stage not in self.done)
            behind = sum(seconds for entry, seconds in known.items() if entry.stage in self.done)
            begun = sum(seconds for entry, seconds in known.items() if entry.stage not in self.done)
            whole = behind + max(begun, ahead)
            share, left = 1 - ahead / whole if whole else share, f", {about(ahead)} left"
        return f"[{'#' * round(BAR * share):<{BAR}}] {len(self.done)} of {total}{left}"

    def _ahead(self, entry: Planned, now: float) -> float:
        """Seconds that a stage which is not done will take of the whole machine."""
        expected = 0.0 if entry.taken_from else self.expected[entry.stage].seconds or 0.0
        if entry.stage in self.running:
            heard = listen(paths.heartbeat(self.folder, entry.stage))
            expected = heard.left if heard else max(expected - (now - self.running[entry.stage]), 0.0)
        return entry.machine * expected

    def close(self) -> None:
        """Take the live line away."""
        print(self._clear(), end="", flush=True)

    def _clear(self) -> str:
        return "\r\033[K" if sys.stdout.isatty() else ""


def _roughly(seconds: float) -> str:
    return about(seconds).removeprefix("about ")


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
