"""What `make reproduce` says before, during and after."""

import sys
from pathlib import Path
from typing import Any

import pytest

from robbertje_lib.experiment import paths
from robbertje_lib.experiment.provenance import hardware
from robbertje_lib.experiment.run import open_run
from robbertje_lib.experiment.words import duration
from robbertje_lib.workflow.progress import Earlier, Planned, StageProgress, announce, earlier_times
from tests.support.records import run_record

PLANNED = [Planned("10_corpus", "not made yet"), Planned("20_teacher", "the profile changed")]


def _record(run_name: str, stage: str, seconds: float, started: str, **machine: Any) -> None:
    machine = {**hardware().model_dump(), **machine}
    record = run_record(stage, seconds=seconds, started=started, hardware=machine)
    record.save(paths.RunPaths(run_name, paths.output_root()).record(stage))


def test_estimates_come_from_this_run_or_else_from_the_nearest() -> None:
    stages = ["10_corpus", "20_teacher", "40_pseudo_perplexity", "60_gender_bias", "80_efficiency"]
    run = open_run("demo")
    assert earlier_times(run, stages) == {}
    _record("demo", "10_corpus", 10.0, "2026-01-01")
    _record("smoke", "10_corpus", 1.0, "2026-01-02")
    _record("demo_seeds_5", "20_teacher", 20.0, "2026-01-01")
    _record("demo_seeds_3", "20_teacher", 25.0, "2026-01-02")
    _record("smoke", "20_teacher", 2.0, "2026-01-03")
    _record("smoke", "40_pseudo_perplexity", 4.0, "2026-01-03")
    _record("demo", "60_gender_bias", 6.0, "2026-01-03", cores=999)  # another machine
    _record("demo", "70_significance", 7.0, "2026-01-03")  # not asked for
    (paths.output_root() / "papermill_runs/broken/records").mkdir(parents=True)
    (paths.output_root() / "papermill_runs/broken/records/10_corpus.json").write_text("{")
    assert earlier_times(run, stages) == {
        "10_corpus": Earlier(10.0, "demo"),
        "20_teacher": Earlier(25.0, "demo_seeds_3"),
        "40_pseudo_perplexity": Earlier(4.0, "smoke"),
    }


def test_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    run = open_run("demo")
    announce(run, PLANNED, {"20_teacher": Earlier(245.2, "demo")}, 2, 10**8, 10**10)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:3] == ["4 students, 4 distillations", "disk: about 0.1 GB needed in all, 10.0 GB free"]
    assert lines[3:] == [
        "2 stages to run:",
        "  10_corpus                                    not made yet (no estimate)",
        "  20_teacher                                   the profile changed (took 4 min 5 s last time)",
        "1 of these took 4 min 5 s in all before.",
    ]
    before = {"10_corpus": Earlier(7.0, "smoke"), "20_teacher": Earlier(245.2, "demo")}
    announce(run, PLANNED, before, 2, 10**8, 10**10)
    told = capsys.readouterr().out
    assert "not made yet (took 7 s in smoke)" in told
    assert told.endswith("These took 4 min 12 s in all before.\n")


@pytest.fixture
def progress(monkeypatch: pytest.MonkeyPatch) -> StageProgress:
    monkeypatch.setattr("time.monotonic", lambda: 100.0)
    return StageProgress(PLANNED, {}, 100.0)


def test_the_bar_goes_by_time_where_all_times_are_known(progress: StageProgress) -> None:
    assert progress.bar(100.0) == f"[{' ' * 20}] 0 of 2"
    progress.done.add("10_corpus")
    assert progress.bar(100.0) == f"[{'#' * 10}{' ' * 10}] 1 of 2"
    progress.before = {"10_corpus": Earlier(20.0, "demo"), "20_teacher": Earlier(80.0, "demo")}
    assert progress.bar(100.0) == f"[{'#' * 4}{' ' * 16}] 1 of 2, about 1 min 20 s left"
    progress.running["20_teacher"] = 100.0
    assert progress.bar(140.0) == f"[{'#' * 12}{' ' * 8}] 1 of 2, about 40 s left"
    assert progress.bar(500.0) == f"[{'#' * 20}] 1 of 2, about 0 s left"  # slower than before


def test_plain_lines_where_nobody_watches(progress: StageProgress, capsys: pytest.CaptureFixture[str]) -> None:
    progress.start("10_corpus")
    progress.wait()
    progress.finish("10_corpus", 7.2, None)
    progress.fail("20_teacher", "no text; add some")
    progress.close()
    assert capsys.readouterr().out.splitlines() == [
        "[0:00:00] 10_corpus ...",
        "[0:00:00] 10_corpus done in 7 s; 1 of 2 done, 1 left",
        "[0:00:00] 20_teacher failed",
    ]
    assert progress.error == "no text; add some"


def test_what_is_taken_over_is_told_and_takes_no_time(capsys: pytest.CaptureFixture[str]) -> None:
    planned = [Planned("10_corpus", "not made yet", "demo"), Planned("20_teacher", "not made yet")]
    before = {"20_teacher": Earlier(60.0, "demo")}
    announce(open_run("demo"), planned, before, 2, 10**8, 10**10)
    assert capsys.readouterr().out.splitlines()[3:] == [
        "2 stages to run, 1 of them by taking over what another run has made:",
        "  10_corpus                                    taken from demo",
        "  20_teacher                                   not made yet (took 1 min 0 s last time)",
        "These took 1 min 0 s in all before.",
    ]
    progress = StageProgress(planned, before, began=0.0)
    assert progress.bar(0.0).endswith("0 of 2, about 1 min 0 s left")
    progress.finish("10_corpus", 5.0, "demo")
    assert "10_corpus taken from demo; 1 of 2 done, 1 left" in capsys.readouterr().out


def test_a_live_line_in_a_terminal(
    progress: StageProgress, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    progress.start("10_corpus")
    progress.wait()
    progress.close()
    told = capsys.readouterr().out
    live = told.split("\r\033[K")[2]
    assert live.startswith(f"[0:00:00] [{' ' * 20}] 0 of 2 10_corpus for") and len(live) == 59
    assert told.endswith("\r\033[K")  # nothing of it stays


@pytest.mark.parametrize(("seconds", "words"), [(6.6, "7 s"), (185, "3 min 5 s"), (7860, "2 h 11 min")])
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_a_folder_beside_the_runs_is_no_run(tmp_path: Path) -> None:
    (paths.output_root() / "papermill_runs/notes").mkdir(parents=True)
    assert earlier_times(open_run("demo"), ["10_corpus"]) == {}
