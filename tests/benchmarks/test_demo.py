import argparse
from pathlib import Path

import psutil

from robbertje_lib.experiment.results.claims import InstrumentCheck
from robbertje_lib.experiment.results.record import GitState
from tests.benchmarks.bench_demo import WholeRun, busy_process, first_figure, rows, run_once


def whole(kind: str = "idle", seconds: float = 100.0, passed: bool = True, failed: str | None = None) -> WholeRun:
    return WholeRun(
        kind=kind,
        seed=None,
        git=GitState(commit=None, dirty=None),
        load_before=0.1,
        failed=failed,
        seconds=seconds,
        first_figure="lengths.svg",
        first_figure_seconds=seconds / 4,
        teacher_tokens_per_second=1e4,
        teacher_precision="fp32",
        stages=[],
        instruments=[
            InstrumentCheck(instrument="a probe", planted="0.5", read="0.5", passed=True, detail=""),
            InstrumentCheck(instrument="a task", planted="above 0.7", read="0.6", passed=passed, detail=""),
        ],
    )


def test_a_failed_check_and_a_failed_run_are_told() -> None:
    made = rows([whole(seconds=100.0), whole(seconds=140.0, passed=False), whole(failed="boom"), whole("avx2")], "demo")
    assert [row.at for row in made] == ["idle", "idle, AVX2 only"]
    assert made[0].numbers == {"all": 120.0, "slowest": 140.0, "first figure": 30.0}
    assert made[0].agreement == "3 of 4 instrument checks passed (not: a task); 1 of 3 RUNS FAILED"
    assert made[1].agreement == "2 of 2 instrument checks passed"


def test_a_kind_whose_runs_all_failed_still_has_a_row() -> None:
    (made,) = rows([whole(failed="boom")], "demo")
    assert made.numbers == {} and "1 of 1 RUNS FAILED" in (made.agreement or "")


def test_a_run_that_cannot_start_is_kept_as_failed(tmp_path: Path) -> None:
    given = argparse.Namespace(profile="no_such_profile", cores=1)
    run = run_once("idle", 3, given, tmp_path / "run")
    assert run.failed is not None and "no_such_profile" in run.failed and "FAILED" in run.line()
    assert (run.stages, run.instruments, run.first_figure) == ([], [], None)
    run.save(tmp_path / "run" / "whole_run.json")
    assert WholeRun.load(tmp_path / "run" / "whole_run.json") == run


def test_the_first_figure_is_whole_and_no_other_file(tmp_path: Path) -> None:
    folder = tmp_path / "figures" / "demo"
    folder.mkdir(parents=True)
    assert first_figure(tmp_path) is None
    (folder / ".lengths.svg.12.new.tmp").touch()
    (folder / "report.html").touch()
    assert first_figure(tmp_path) is None
    (folder / "lengths.svg").touch()
    assert first_figure(tmp_path) == "lengths.svg"


def test_the_busy_process_ends_with_the_run() -> None:
    with busy_process(True):
        (child,) = [c for c in psutil.Process().children() if "while True" in " ".join(c.cmdline())]
    assert not child.is_running()
