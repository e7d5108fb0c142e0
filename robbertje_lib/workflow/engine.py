"""Snakemake as a child of the front door: which stages it would run and why, and what happens while it runs them."""

import json
import os
import queue
import shlex
import subprocess
import sys
import threading
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robbertje_lib.experiment import paths
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.provenance import hardware
from robbertje_lib.experiment.run import Run
from robbertje_lib.workflow.processes import project_environment
from robbertje_lib.workflow.stage_call import MODULE, StageCall
from robbertje_lib.workflow.warm import warm_process

Event = dict[str, Any]  # as `snakemake_events` writes it
POLL = 0.2  # seconds between two looks at what has happened
MOST_NAMES = 3  # changed files that a reason names


@dataclass(frozen=True)
class PlannedJob:
    """A stage that Snakemake would run: how it would be called, and why, in the user's words."""

    call: StageCall
    reason: str

    @property
    def stage(self) -> str:
        return self.call.stage


@dataclass
class Snakemake:
    """One call of Snakemake for stages of a run, with `profile` as its (frozen) profile."""

    run: Run
    profile: Path
    cores: int
    wanted: Sequence[str]  # stages; all of them, if none is named
    status: int = 0  # after `events`
    faults: list[str] = field(default_factory=list)  # what Snakemake itself had to say

    @property
    def log(self) -> Path:
        """What Snakemake and its stages print."""
        return self.run.paths.run / "snakemake.log"

    def jobs(self) -> list[PlannedJob]:
        """What it would run, in the order of the stages. Raises `UserError` if it cannot tell."""
        jobs = [self._job(event) for event in self.events("--dry-run", "--debug-dag") if event and "command" in event]
        if self.status:
            fault = " ".join(self.faults).partition('File "')[0] or "Snakemake failed "
            raise UserError(f"cannot plan the stages: {fault}(see {self.log})")
        order = self.run.profile.stages
        return sorted(jobs, key=lambda job: order.index(job.stage))

    def _job(self, event: Event) -> PlannedJob:
        words = shlex.split(event["command"])
        call = StageCall.parse(words[words.index(MODULE) + 1 :], self.run.paths.run)
        return PlannedJob(call, _in_words(**event["why"]))

    def events(self, *options: str) -> Generator[Event | None, None, None]:
        """Run it, and yield what `snakemake_events` tells as it happens; None whenever nothing has for a while.

        Whoever stops listening ends it.
        """
        reader, writer = os.pipe()
        told: queue.SimpleQueue[Event] = queue.SimpleQueue()
        with (
            self.log.open("w", encoding="utf-8") as log,
            os.fdopen(reader, encoding="utf-8") as stream,
            # The driver of a GPU may not survive a fork, and training takes hours there.
            warm_process(log, needed="--dry-run" not in options and not hardware().gpus) as warm,
        ):
            child = subprocess.Popen(
                [*self._command(writer), *options], cwd=paths.PROJECT, env=project_environment(**warm),
                pass_fds=[writer], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
            os.close(writer)  # the child's is the only one now: the stream ends with it
            listener = threading.Thread(target=_listen, args=(stream, told), daemon=True)
            listener.start()
            try:
                while listener.is_alive() or not told.empty():
                    try:
                        event = told.get(timeout=POLL)
                    except queue.Empty:
                        yield None
                        continue
                    if event["event"] == "error":
                        self.faults.append(event["message"])
                    yield event
                self.status = child.wait()
            finally:
                child.terminate()
                child.wait()
                listener.join()

    def _command(self, pipe: int) -> list[str]:
        run = self.run.paths
        return [
            sys.executable, "-m", "robbertje_lib.workflow.snakemake_events", str(os.getpid()),
            "--logger", "robbertje", "--logger-robbertje-pipe", str(pipe),
            "--snakefile", str(paths.PROJECT / "Snakefile"),
            "--directory", str(run.run),
            "--config", f"profile={json.dumps(str(self.profile))}",
            "--cores", str(self.cores),
            # Not `input`: a project that is moved keeps its results. No checksums: a touched file is a changed file.
            "--rerun-triggers", "mtime", "params", "code",
            "--max-checksum-file-size", "0",
            # Our own lock (`reproduce.alone`) ends with its process, Snakemake's does not.
            "--nolock", "--rerun-incomplete",
            "--scheduler", "greedy", "--nocolor",
            *(run.record(stage).relative_to(run.run).as_posix() for stage in self.wanted),
        ]  # fmt: skip


def _listen(stream: Iterable[str], told: queue.SimpleQueue[Event]) -> None:
    for line in stream:
        told.put(json.loads(line))


def _in_words(missing: bool, interrupted: bool, settings: bool, rules: bool, changed: Sequence[str]) -> str:
    """Snakemake's reason in the user's words."""
    names = [Path(name).name for name in changed]
    more = " ..." if len(names) > MOST_NAMES else ""
    told = {
        "not made yet": missing,
        "was interrupted": interrupted,
        f"changed: {', '.join(names[:MOST_NAMES])}{more}": bool(names),
        "the Snakefile changed": rules,
        "the profile changed": settings,
    }
    return "; ".join(words for words, true in told.items() if true) or "what it reads will change"
