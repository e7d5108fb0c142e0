"""What `make reproduce` says before, during and after."""

import sys
from pathlib import Path

import pytest

from robbertje_lib.experiment import paths
from robbertje_lib.experiment.run import open_run
from robbertje_lib.experiment.words import duration
from robbertje_lib.workflow.estimates import Estimate
from robbertje_lib.workflow.progress import EVERY, Planned, StageProgress, announce

PLANNED = [Planned("10_corpus", "not made yet"), Planned("20_teacher", "the profile changed")]
EXPECTED = {
    "10_corpus": Estimate(20.0, "about 20 s, estimated"),
    "20_teacher": Estimate(80.0, "took 1 min 20 s last time"),
}
UNKNOWN = Estimate(None, "no estimate: nobody knows")


def test_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    run = open_run("demo")
    announce(run, PLANNED, EXPECTED, 2, 10**8, 10**10)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:3] == ["4 students, 4 distillations", "disk: about 0.1 GB needed in all, 10.0 GB free"]
    assert lines[3:] == [
        "2 stages to run:",
        "  10_corpus                                    not made yet (about 20 s, estimated)",
        "  20_teacher                                   the profile changed (took 1 min 20 s last time)",
        "In all about 2 min.",
    ]
    announce(run, PLANNED, {**EXPECTED, "10_corpus": UNKNOWN}, 2, 10**8, 10**10)
    told = capsys.readouterr().out
    assert "not made yet (no estimate: nobody knows)" in told
    assert told.endswith("In all about 1 min for 1 of these; the others have no estimate.\n")
    announce(run, PLANNED, dict.fromkeys(EXPECTED, UNKNOWN), 2, 10**8, 10**10)
    assert capsys.readouterr().out.endswith("How long it will take in all is not known.\n")


def test_two_that_share_the_machine_take_half_of_it_each(capsys: pytest.CaptureFixture[str]) -> None:
    halves = [Planned("40_pseudo_perplexity", "", machine=0.5), Planned("60_gender_bias", "", machine=0.5)]
    expected = dict.fromkeys(["40_pseudo_perplexity", "60_gender_bias"], Estimate(60.0, "about 1 min, estimated"))
    announce(open_run("demo"), halves, expected, 2, 0, 0)
    assert capsys.readouterr().out.endswith("In all about 1 min.\n")


@pytest.fixture
def progress(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StageProgress:
    monkeypatch.setattr("time.monotonic", lambda: 100.0)
    return StageProgress(PLANNED, EXPECTED, tmp_path, 100.0)


def heard(progress: StageProgress, stage: str, share: float, left: float) -> None:
    paths.heartbeat(progress.folder, stage).write_text(f'{{"share": {share}, "left": {left}}}')


def test_the_bar_goes_by_time(progress: StageProgress) -> None:
    assert progress.bar(100.0) == f"[{' ' * 20}] 0 of 2, about 2 min left"
    progress.done.add("10_corpus")
    assert progress.bar(100.0) == f"[{'#' * 4}{' ' * 16}] 1 of 2, about 1 min left"
    progress.running["20_teacher"] = 100.0
    assert progress.bar(140.0) == f"[{'#' * 12}{' ' * 8}] 1 of 2, about 40 s left"
    heard(progress, "20_teacher", 0.5, 60.0)  # the stage knows better than what was expected
    assert progress.bar(140.0) == f"[{'#' * 8}{' ' * 12}] 1 of 2, about 1 min left"
    heard(progress, "20_teacher", 0.1, 900.0)
    assert progress.bar(140.0) == f"[{' ' * 20}] 1 of 2, about 15 min left"


def test_the_bar_goes_by_stages_as_long_as_one_that_is_left_has_no_estimate(progress: StageProgress) -> None:
    progress.expected = {**EXPECTED, "10_corpus": UNKNOWN}
    assert progress.bar(100.0) == f"[{' ' * 20}] 0 of 2"
    progress.done.add("10_corpus")
    assert progress.bar(100.0) == f"[{' ' * 20}] 1 of 2, about 1 min left"


def test_plain_lines_where_nobody_watches(
    progress: StageProgress, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    progress.start("10_corpus")
    progress.wait()
    progress.finish("10_corpus", 7.2, None)
    progress.start("20_teacher")
    monkeypatch.setattr("time.monotonic", lambda: 100.0 + EVERY)
    progress.wait()
    progress.wait()
    heard(progress, "20_teacher", 0.24, 2040.0)
    monkeypatch.setattr("time.monotonic", lambda: 100.0 + 2 * EVERY)
    progress.wait()
    progress.fail("20_teacher", "no text; add some")
    progress.close()
    assert capsys.readouterr().out.splitlines() == [
        "[0:00:00] 10_corpus ...",
        "[0:00:00] 10_corpus done in 7 s; 1 of 2 done, 1 left",
        "[0:00:00] 20_teacher ...",
        "[0:01:00] 20_teacher for 1 min 0 s",
        "[0:02:00] 20_teacher 24 % (34 min left)",
        "[0:02:00] 20_teacher failed",
    ]
    assert progress.error == "no text; add some" and EVERY == 60


def test_what_is_taken_over_is_told_and_takes_no_time(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    planned = [Planned("10_corpus", "not made yet", "demo"), Planned("20_teacher", "not made yet")]
    expected = {"20_teacher": EXPECTED["20_teacher"]}
    announce(open_run("demo"), planned, expected, 2, 10**8, 10**10)
    assert capsys.readouterr().out.splitlines()[3:] == [
        "2 stages to run, 1 of them by taking over what another run has made:",
        "  10_corpus                                    taken from demo",
        "  20_teacher                                   not made yet (took 1 min 20 s last time)",
        "In all about 1 min.",
    ]
    progress = StageProgress(planned, expected, tmp_path, began=0.0)
    assert progress.bar(0.0).endswith("0 of 2, about 1 min left")
    progress.finish("10_corpus", 5.0, "demo")
    assert "10_corpus taken from demo; 1 of 2 done, 1 left" in capsys.readouterr().out


def test_a_live_line_in_a_terminal(
    progress: StageProgress, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "85")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    progress.start("10_corpus")
    heard(progress, "10_corpus", 0.5, 10.0)
    progress.wait()
    progress.close()
    told = capsys.readouterr().out
    live = told.split("\r\033[K")[2]
    assert live == f"[0:00:00] [{'#' * 2}{' ' * 18}] 0 of 2, about 2 min left 10_corpus 50 % (10 s left)"
    monkeypatch.setenv("COLUMNS", "60")
    progress.wait()
    assert len(capsys.readouterr().out.removeprefix("\r\033[K")) == 59
    assert told.endswith("\r\033[K")  # nothing of it stays


@pytest.mark.parametrize(("seconds", "words"), [(6.6, "7 s"), (185, "3 min 5 s"), (7860, "2 h 11 min")])
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words
