"""What exists of a run: told from run records alone, with or without results."""

import nbformat
import pytest

from robbertje_lib.experiment import artefacts, paths
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.run import Run
from robbertje_lib.show import overview
from robbertje_lib.show.figures import NotDrawn
from tests.support.records import run_record
from tests.support.result_files import make_run

REPORT = "figures/smoke/report.html"


@pytest.fixture
def run() -> Run:
    return make_run(paths.output_root(), "smoke")


def record(run: Run, stage: str, seconds: float = 90.0) -> None:
    run_record(stage, seconds=seconds).write(run, stage=stage)


def finish(run: Run) -> None:
    for stage in run.profile.stages:
        record(run, stage)


def test_without_results_every_stage_is_listed_as_not_run(run: Run) -> None:
    table = overview.stage_table(run)
    assert list(table.index) == run.profile.stages
    assert set(table["state"]) == {"not run"}
    assert (table[["finished", "took", "look at"]] == "").all(axis=None)
    assert overview.run_table().empty
    assert "make reproduce PROFILE=smoke`" in overview.next_step(run, "smoke", 1.0)


def test_a_stage_is_done_once_its_record_is_there(run: Run) -> None:
    artefacts.write_json(run.paths.result("teacher.json"), {})  # a result without a record is not enough
    record(run, "10_corpus", 12.34)
    table = overview.stage_table(run)
    assert list(table.index[table["state"] == "done"]) == ["10_corpus"]
    done = table.loc["10_corpus"]
    assert done["took"] == "12 s" and done["memory"] == "1.2 GB"
    assert done["look at"] == "papermill_runs/smoke/10_corpus.ipynb"
    told = overview.next_step(run, "smoke", 0.5)
    assert f"Of {len(table)} stages 1 are done" in told and "PROFILE=smoke BUDGET=0.5" in told


def test_finished_is_start_and_duration_together(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    record(run, "10_corpus", 3600.0)
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    assert overview.stage_table(run).loc["10_corpus", "finished"] == "2026-11-22 19:00"


@pytest.mark.parametrize(
    ("name", "state", "told"),
    [
        ("20_teacher.failed.ipynb", "failed", "went wrong in 20_teacher"),
        (".20_teacher.running.ipynb", "under way", "Wait: 20_teacher"),
    ],
)
def test_failed_and_running_stages_are_told_apart(run: Run, name: str, state: str, told: str) -> None:
    run.paths.run.mkdir(parents=True)
    nbformat.write(nbformat.v4.new_notebook(), run.paths.run / name)
    assert overview.stage_table(run).loc["20_teacher", "state"] == state
    assert told in overview.next_step(run, "smoke", 1.0)


def test_the_last_stage_points_to_the_report(run: Run) -> None:
    finish(run)
    assert overview.stage_table(run).loc["90_claims_and_figures", "look at"] == REPORT
    told = overview.next_step(run, "smoke", 1.0)
    assert REPORT in told and "make plan PROFILE=smoke" in told


def test_runs_of_all_profiles_are_listed(run: Run) -> None:
    finish(run)
    (paths.output_root() / "papermill_runs" / "mini-budget0.05").mkdir()
    (run.paths.figures).mkdir(parents=True)
    (run.paths.figures / "report.html").write_text("<html></html>")
    table = overview.run_table()
    assert table["stages done"].to_dict() == {"mini-budget0.05": 0, "smoke": len(run.profile.stages)}
    assert table.loc["smoke", "report"] == REPORT and table.loc["mini-budget0.05", "report"] == ""


def test_a_damaged_record_is_a_users_error(run: Run) -> None:
    run.paths.record("10_corpus").parent.mkdir(parents=True)
    run.paths.record("10_corpus").write_text("{")
    with pytest.raises(UserError, match=r"10_corpus\.json is damaged"):
        overview.stage_table(run)


def test_a_figure_is_shown_as_it_was_saved(run: Run) -> None:
    shown = overview.saved_figure(run, "pseudo_perplexity")
    assert isinstance(shown, NotDrawn) and "pseudo_perplexity.svg" in repr(shown)
    run.paths.figures.mkdir(parents=True)
    for kind in ("svg", "png"):
        (run.paths.figures / f"pseudo_perplexity.{kind}").write_bytes(b"as saved")
    assert overview.saved_figure(run, "pseudo_perplexity")._repr_html_().count("YXMgc2F2ZWQ=") == 1  # type: ignore[union-attr]


def test_the_profiles_students_are_told(run: Run) -> None:
    table = overview.settings_table(run)
    assert list(table.index) == list(run.profile.students)
    assert table.loc["bort", "shape"] == run.profile.students["bort"].shape
    assert table.loc["bort", "trains for"] == "20,000 tokens, in updates of 1,024 tokens"
    assert set(table["replicates"]) == {run.profile.replicates}
