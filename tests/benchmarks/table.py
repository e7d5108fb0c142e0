"""README's table of speeds, made from docs/benchmarks: `python -m tests.benchmarks.table`; `--check` only compares."""

import re
import sys
from pathlib import Path

from robbertje_lib.experiment import paths
from robbertje_lib.experiment.provenance import commit
from tests.benchmarks.frame import FOLDER, Benchmark, Machine, Row, ratio_in_words

README = paths.PROJECT / "README.md"
OPENING, CLOSING = "<!-- made from docs/benchmarks by make bench -->", "<!-- end -->"
HEADING = ("| what | against | at | on | measured |", "|---|---|---|---|---|")


def main() -> int:
    """Fill README, or with `--check` say whether it is up to date; returns the exit status."""
    text = README.read_text(encoding="utf-8")
    made = filled(text, table(read(FOLDER)))
    if "--check" not in sys.argv:
        README.write_text(made, encoding="utf-8")
    elif made != text:
        print(
            "README's speeds are not those of docs/benchmarks; run `python -m tests.benchmarks.table`", file=sys.stderr
        )
        return 1
    return 0


def read(folder: Path) -> list[Benchmark]:
    """The benchmarks that were kept, by file name; a processor's own comes before what it shows with fewer abilities."""
    return [Benchmark.load(file) for file in sorted(folder.glob("*.json"), key=lambda file: file.stem)]


def table(benchmarks: list[Benchmark]) -> str:
    """A line a row, and below it what was left out."""
    lines = [*HEADING, *(_line(row, done.machine) for done in benchmarks for row in done.rows)]
    told = {f"Not measured: {what}: {why}." for done in benchmarks for what, why in done.left_out.items()}
    dates = sorted({f"{done.date[:10]} at {commit(done.git)}" for done in benchmarks})
    versions = sorted({f"torch {done.packages['torch']}" for done in benchmarks if "torch" in done.packages})
    return "\n".join([*lines, "", *sorted(told), f"Measured on {', '.join(dates)}, with {', '.join(versions)}."])


def filled(text: str, content: str) -> str:
    """`text` with `content` between the markers. Raises `ValueError` where it has not each of them once."""
    pattern = re.compile(f"(?<={re.escape(OPENING)}\n).*?(?={re.escape(CLOSING)})", re.DOTALL)
    made, found = pattern.subn(lambda _: f"{content}\n", text)
    if found != 1:
        raise ValueError(f"README needs one line {OPENING} and after it one line {CLOSING}")
    return made


def _line(row: Row, machine: Machine) -> str:
    measured = "; ".join(filter(None, (ratio_in_words(row), row.agreement)))
    against = "; ".join(filter(None, (row.against or "none", row.differs)))
    return f"| {' | '.join((row.what, against, row.at, place(machine), measured))} |"


def place(machine: Machine) -> str:
    """`2 cores, AVX2`, or the name of the GPU."""
    return machine.gpu or f"{machine.cores} cores, {machine.instructions}"


if __name__ == "__main__":
    sys.exit(main())
