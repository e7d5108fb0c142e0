"""The command line: `python -m robbertje_lib reproduce --profile mini --budget 0.05 --cores 2`."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from robbertje_lib import reproduce
from robbertje_lib.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 2, after one line, for bad input."""
    parser = argparse.ArgumentParser(prog="python -m robbertje_lib", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in (
        ("reproduce", "run every stage that is not up to date"),
        ("plan", "say what would run, and why"),
    ):
        command = commands.add_parser(name, help=what)
        command.add_argument("--profile", default="demo", help="a name in robbertje_lib/profiles, or a YAML file")
        command.add_argument("--budget", default="1", help="scales training, text and evaluation sizes, up to 1")
        command.add_argument("--cores", default=str(os.cpu_count()), help="processor cores to use")
    options = parser.parse_args(arguments)
    try:
        profile = options.profile
        if profile.endswith((".yaml", ".yml")):
            profile = str(Path(profile).resolve())  # notebooks run in a folder of their own
        run = {"reproduce": reproduce.reproduce, "plan": reproduce.plan}[options.command]
        return run(profile, _number("BUDGET", options.budget), _cores(options.cores))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f"{name} '{text}' is not a number; write for instance {name}=0.05") from None


def _cores(text: str) -> int:
    cores = _number("CORES", text)
    if not cores.is_integer() or cores < 1:
        raise UserError(f"CORES {text}: give a whole number from 1 up")
    return int(cores)


if __name__ == "__main__":
    sys.exit(main())
