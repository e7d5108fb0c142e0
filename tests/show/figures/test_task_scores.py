"""Figures of comparisons show the numbers of the results: scores, learning curves, lengths, p values."""

from pathlib import Path

import numpy as np
import pytest

from robbertje_lib.conclusions.comparisons import compare_models
from robbertje_lib.experiment.results.significance import SignificanceResult
from robbertje_lib.experiment.run import Run
from robbertje_lib.show import figures
from tests.support.result_files import World, make_run, write_measured


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = make_run(tmp_path_factory.mktemp("compared"), "smoke", ("dbrd", "die_dat", "ner"), sizes=(32, 64))
    write_measured(run, World(examples=60, skill={"teacher": 0.9, "bort": 0.6}, replicate_spread=0.02))
    compare_models(run)
    return run


def scores(run: Run, task: str, train: int = 64) -> dict[str, float]:
    rows = SignificanceResult.read(run).scores
    return {row.group: 100 * row.score for row in rows if row.task == task and row.train in {train, 0}}


def test_task_scores_show_models_their_runs_and_their_random_weights(run: Run) -> None:
    panel = figures.plot(run, "task_scores").axes[0]
    of_task = [row for row in SignificanceResult.read(run).scores if (row.task, row.train) == ("dbrd", 64)]
    runs = [line.get_ydata() for line in panel.lines if line.get_marker() == "."]
    models = [row for row in of_task if row.group in run.profile.groups]
    expected = [[100 * score for seeds in row.runs.values() for score in seeds] for row in models]
    assert all(np.allclose(shown, told) for shown, told in zip(runs, expected, strict=True))
    hollow = [float(line.get_ydata()[0]) for line in panel.lines if line.get_markerfacecolor() == "white"]
    assert hollow == [scores(run, "dbrd")[run.profile.control_of(group)] for group in run.profile.groups]


def test_task_scores_show_baselines_and_answers_without_tuning(run: Run) -> None:
    accuracy, untuned, entities = figures.plot(run, "task_scores").axes[:3]
    told = scores(run, "dbrd")
    lines = {
        round(float(line.get_ydata()[0]), 6)
        for line in accuracy.lines
        if len(line.get_xdata()) == 2 and line.get_xdata()[0] == 0
    }
    assert {round(told["majority"], 6), round(told["tf_idf"], 6)} <= lines
    assert "tf idf" in accuracy.get_xlabel() and "word list" in entities.get_xlabel()
    crosses = [float(line.get_ydata()[0]) for line in untuned.lines if line.get_marker() == "x"]
    assert crosses == [scores(run, "die_dat")[f"zero_shot/{group}"] for group in run.profile.groups]


def test_a_learning_curve_has_a_point_a_size(run: Run) -> None:
    panel = figures.plot(run, "learning_curve").axes[0]
    shown = [list(line.get_ydata()) for line in panel.lines]
    both = [scores(run, "dbrd", train) for train in (32, 64)]
    wanted = [*run.profile.groups, *run.profile.controls, "tf_idf"]
    assert shown == [[told[group] for told in both] for group in wanted]
    assert panel.get_xscale() == "log" and [tick.get_text() for tick in panel.get_xticklabels()] == ["32", "64"]


def test_scores_by_length_show_each_bin(run: Run) -> None:
    panel = figures.plot(run, "scores_by_length").axes[0]
    expected = SignificanceResult.read(run).by_length["dbrd"].groups.values()
    assert [list(line.get_ydata()) for line in panel.lines] == [[100 * b.score for b in bins] for bins in expected]


def test_p_values_colour_what_is_significant_at_the_largest_size(run: Run) -> None:
    significance = SignificanceResult.read(run)
    (axes,) = figures.plot(run, "p_values").axes
    shown = axes.collections[0].get_array().ravel()
    rows = [row for row in significance.comparisons if row.train == 64]
    expected = sum(row.adjusted_p <= significance.alpha for row in rows)
    assert len(shown) == len(rows) and np.count_nonzero(shown) == expected > 0


def test_a_profile_of_one_size_a_task_has_no_learning_curve(tmp_path: Path) -> None:
    one = make_run(tmp_path, "smoke", ("dbrd",))
    assert "learning_curve" not in figures.expected(one.profile)
    assert "no task that is trained on more than one size" in repr(figures.draw(one, "learning_curve"))
