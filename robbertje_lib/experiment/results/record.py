"""The run record of a stage, `records/<stage>.json`: what the stage read, was made with and wrote.

It is written last: only its presence means that the stage is done. Files are named from the output root, else from the
project, else by their own name alone; hashes are SHA-256.
"""

from pathlib import Path
from typing import Any, ClassVar

from robbertje_lib.experiment.results.base import Record, ResultFile
from robbertje_lib.experiment.run import Run


class Hardware(Record):
    """A machine: the cores that this process may use, and the names of the NVIDIA GPUs that it may."""

    platform: str
    processor: str
    cores: int
    memory_bytes: int
    gpus: list[str]


class GitState(Record):
    """`commit` checked out and whether the project is `dirty` (differs from it); both None outside git."""

    commit: str | None
    dirty: bool | None


class RunRecord(ResultFile):
    """One stage of one run."""

    version: ClassVar[int] = 3

    stage: str  # `30_distillation-merged`
    notebook: str
    notebook_sha256: str
    executed_sha256: str  # of the executed notebook
    modules: dict[str, str]  # of the library, with their data: name -> hash
    settings: list[str]  # what the stage's rule says of the profile: the digest of the sections it reads, its models
    parameters: dict[str, Any]  # as the notebook saw them
    profile: dict[str, Any] | None  # as it was then: no `Profile`, whose schema and whose files may have changed since
    profile_digest: str | None
    git: GitState
    python: str
    packages: dict[str, str]  # distribution -> version
    hardware: Hardware
    threads: int
    precision: str | None  # what `ROBBERTJE_PRECISION` asked for, if anything
    patchwork: bool  # whether it went on from what other code, packages or settings had begun
    started: str  # ISO 8601, UTC
    seconds: float
    peak_memory_bytes: int
    inputs: dict[str, str]  # name -> hash
    outputs: dict[str, str]
    taken_from: str | None  # the run that this was taken over from; times and machine are of there

    @classmethod
    def path(cls, run: Run, **names: str) -> Path:
        """The record's place. names: `stage`."""
        return run.paths.record(names["stage"])
