import re
import subprocess
import sys
from pathlib import Path

import pytest

from robbertje_lib.experiment import paths
from robbertje_lib.experiment.results.record import GitState
from tests.benchmarks import table
from tests.benchmarks.frame import FOLDER, INSTRUCTIONS, Benchmark, Machine, Row, times_as_fast, turn_by_turn

MACHINE = Machine(processor="A processor", cores=2, threads=2, instructions="AVX2", gpu=None, load_average=0.1)


def row(**changed: object) -> Row:
    given = {
        "what": "an update",
        "against": "the plain step",
        "at": "paper shapes",
        "ratio": 4.148,
        "interval": (3.9, 4.31),
        "numbers": {"ours": 2000.0, "theirs": 482.0},
        "unit": "tokens/s",
        "agreement": "the loss differs by 8e-08",
        **changed,
    }
    return Row(**given)  # type: ignore[arg-type]


def benchmark(*rows: Row, **changed: object) -> Benchmark:
    given = {
        "name": "updates",
        "date": "2026-01-02T03:04:05+00:00",
        "machine": MACHINE,
        "python": "3.11.9",
        "packages": {"torch": "2.13.0"},
        "git": GitState(commit="0123456789abcdef", dirty=False),
        "settings": {"rounds": 3},
        "rows": list(rows),
        "left_out": {},
        **changed,
    }
    return Benchmark(**given)  # type: ignore[arg-type]


def test_a_benchmark_is_read_as_it_was_written(tmp_path: Path) -> None:
    done = benchmark(row(), left_out={"a peer": "not installed"})
    done.save(tmp_path / "updates.json")
    assert table.read(tmp_path) == [done]


def test_the_table_says_where_and_how_much() -> None:
    made = table.table([benchmark(row(differs="one by one"), left_out={"a peer": "not installed"})])
    assert (
        "| an update | the plain step; one by one | paper shapes | 2 cores, AVX2 "
        "| 4.15 times the tokens/s (3.90 to 4.31); the loss differs by 8e-08 |" in made
    )
    assert "Not measured: a peer: not installed." in made
    assert "2026-01-02 at commit 0123456789, with torch 2.13.0" in made


def test_code_that_no_commit_holds_is_marked() -> None:
    dirty = benchmark(row(), git=GitState(commit="0123456789abcdef", dirty=True))
    assert "0123456789+" in table.table([dirty])


def test_a_time_alone_is_told_without_a_ratio() -> None:
    alone = row(against=None, ratio=None, interval=None, numbers={"all": 251.4, "first figure": 41.26}, unit="s")
    assert "| none |" in table.table([benchmark(alone)]) and "all: 251 s, first figure: 41.3 s" in table.table(
        [benchmark(alone)]
    )


def test_only_what_stands_between_the_markers_is_replaced() -> None:
    text = f"before\n{table.OPENING}\nold\nlines\n{table.CLOSING}\nafter\n"
    made = table.filled(text, "new")
    assert made == f"before\n{table.OPENING}\nnew\n{table.CLOSING}\nafter\n"
    assert table.filled(made, "new") == made
    with pytest.raises(ValueError, match="README needs"):
        table.filled("no markers", "new")


def test_the_table_in_readme_is_that_of_the_measurements() -> None:
    if not list(FOLDER.glob("*.json")):
        pytest.skip("docs/benchmarks holds no measurement yet: `make bench` writes them")
    text = table.README.read_text(encoding="utf-8")
    assert table.filled(text, table.table(table.read(FOLDER))) == text, "run `python -m tests.benchmarks.table`"


def test_ways_take_turns_and_the_first_round_is_not_counted() -> None:
    order: list[str] = []
    seconds = turn_by_turn({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2, "cpu")
    assert order == ["a", "b"] * 3
    assert {way: len(values) for way, values in seconds.items()} == {"a": 2, "b": 2}


def test_a_ratio_is_that_of_a_round() -> None:
    assert times_as_fast([2.0, 40.0, 6.0], [1.0, 10.0, 2.0]) == (3.0, (2.0, 4.0))


@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_fewer_instructions_are_what_pytorch_then_uses(name: str) -> None:
    code = "import torch; print(torch.backends.cpu.get_cpu_capability())"
    done = subprocess.run(
        [sys.executable, "-c", code], env=INSTRUCTIONS[name], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip().lower() in {name, "default", "no avx"}


def test_without_the_device_there_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.benchmarks.bench_pseudo_perplexity", "--device", "cuda"]
    environment = {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(paths.PROJECT), "HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=paths.PROJECT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and re.fullmatch(r"error: no CUDA device is visible.*\n", done.stderr)
