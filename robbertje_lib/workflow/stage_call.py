"""A stage as its rule calls it: the command line of `notebook_runs`, which the plan reads, too."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODULE = "robbertje_lib.workflow.notebook_runs"


@dataclass(frozen=True)
class StageCall:
    """Which notebook to run on what. Every path is absolute; an output may stand for its folder."""

    notebook: Path
    executed: Path
    record: Path  # its stem is the stage's name
    parameters: tuple[str, ...]  # NAME=VALUE
    inputs: tuple[Path, ...]
    modules: tuple[Path, ...]
    outputs: tuple[Path, ...]
    threads: int
    settings: tuple[str, ...]  # whatever the rule's parameters are; where they differ, so may the results
    gpus: int = 0  # how many of several to have to itself, 0 or 1

    @property
    def stage(self) -> str:
        return self.record.stem

    @property
    def run(self) -> Path:
        """The folder of the run."""
        return self.record.parent.parent

    @classmethod
    def parse(cls, arguments: Sequence[str], folder: Path) -> "StageCall":
        """folder: what paths are relative to. Exits with a message for another command line, as argparse does."""
        parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description="Run one notebook.")
        for name in ("notebook", "executed", "record"):
            parser.add_argument(name, type=folder.joinpath)
        parser.add_argument("-p", "--parameter", dest="parameters", action="append", default=[], metavar="NAME=VALUE")
        for name in ("inputs", "modules", "outputs"):
            parser.add_argument(f"--{name}", nargs="*", type=folder.joinpath, default=[])
        parser.add_argument("--threads", type=int, default=1)
        parser.add_argument("--gpus", type=int, choices=(0, 1), default=0)
        parser.add_argument("--settings", nargs=argparse.REMAINDER, default=[], help="all that follows")
        given = vars(parser.parse_args(arguments))
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
        return cls(**fields)
