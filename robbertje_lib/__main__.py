"""The command line: `python -m robbertje_lib reproduce --profile mini --budget 0.05 --cores 2`."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.run import Run
from robbertje_lib.workflow import reproduce
from robbertje_lib.workflow.resolve import resolve

PROFILE = "a name in robbertje_lib/profiles, a YAML file, or papermill_runs/RUN/profile.yaml"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 2, after one line, for bad input, 1 if something is not as it should."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
        return status
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m robbertje_lib", description=__doc__)
    commands = parser.add_subparsers(required=True)

    def add(name: str, run: Callable[[argparse.Namespace], int], what: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=what)
        command.set_defaults(run=run)
        return command

    for command in (
        add("reproduce", _reproduce, "run every stage that is not up to date"),
        add("plan", _plan, "say what would run, and why"),
    ):
        command.add_argument("--profile", default="demo", help=PROFILE)
        _add_variant(command)
        command.add_argument("--cores", default=str(os.cpu_count()), help="processor cores to use")
        command.add_argument(
            "--until", default="", metavar="STAGE", help="only this and what it needs, such as 40_pseudo_perplexity"
        )
    command = add("explain", _explain, "say where a figure, a claim or a result comes from")
    command.add_argument("what", help="figures/demo/pseudo_perplexity.svg, claims.merged_better_on_long, ...")
    command.add_argument("--profile", default="demo", help=f"for a claim: {PROFILE}")
    command.add_argument("--files", action="store_true", help="list every source file with its hash")
    _add_variant(command)
    command = add("verify", _verify, "compare the results on disk with their records")
    command.add_argument("profile", help=PROFILE)
    _add_variant(command)
    return parser


def _reproduce(options: argparse.Namespace) -> int:
    return reproduce.reproduce(_run(options), _cores(options.cores), options.until)


def _plan(options: argparse.Namespace) -> int:
    return reproduce.plan(_run(options), _cores(options.cores), options.until)


def _explain(options: argparse.Namespace) -> int:
    from robbertje_lib.workflow.explain import (
        explain,  # not above: it draws in matplotlib, a second that `plan` need not wait
    )

    print(explain(options.what, lambda: _run(options), options.files))
    return 0


def _verify(options: argparse.Namespace) -> int:
    from robbertje_lib.workflow.verify import verify  # not above: nbformat takes as long

    verification = verify(_run(options))
    print(verification)
    return 1 if verification.findings else 0


def _add_variant(command: argparse.ArgumentParser) -> None:
    command.add_argument("--budget", default="", help="scales training, text and evaluation sizes, up to 1")
    command.add_argument(
        "--set", action="append", default=[], metavar="SETTINGS", help='such as "merge_probability=0.3 seeds=5"'
    )


def _run(options: argparse.Namespace) -> Run:
    budget = _number("BUDGET", options.budget) if options.budget else None  # a frozen profile has its own
    return resolve(options.profile, budget, " ".join(options.set))


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
