"""Figures: each reads what it names, shows the numbers of the results, carries its origin, and is one file."""

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from robbertje_lib.conclusions.time_to_quality import compare_recipes
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.profile import load_profile
from robbertje_lib.experiment.results.claims import ClaimsResult
from robbertje_lib.experiment.results.corpus import ArmResult
from robbertje_lib.experiment.results.finetuning import TaskScores
from robbertje_lib.experiment.results.gender_bias import GenderBiasResult, PronounProbe
from robbertje_lib.experiment.results.pseudo_perplexity import PseudoPerplexityResult
from robbertje_lib.experiment.results.significance import SignificanceResult
from robbertje_lib.experiment.results.training import CurvePoint, DistillationResult, HeldOutPoint
from robbertje_lib.experiment.run import Run
from robbertje_lib.show import figures
from robbertje_lib.show.figure_style import PALETTE, label, looks, new_figure, save_figure
from robbertje_lib.show.figures.live import live_curve
from robbertje_lib.show.report import write_report
from tests.support.result_files import World, conclude, make_run, write_results

OWN = """
from robbertje_lib.experiment.results.efficiency import EfficiencyResult
from robbertje_lib.show.figure_style import new_figure
from robbertje_lib.show.figures import Figure


def plot(results):
    models = results[EfficiencyResult].models
    fig = new_figure()
    fig.subplots().barh(list(models), [model.parameters for model in models.values()])
    return fig


FIGURE = Figure("parameters", "Parameters of every model.", (EfficiencyResult,), plot)
"""


def concluded(folder: Path, profile: str, *sizes: int) -> Run:
    run = make_run(folder, profile, ("dbrd", "ner"), sizes=sizes)
    write_results(run, World(examples=60, skill={"teacher": 0.9, "bort": 0.6}))
    conclude(run)
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return concluded(tmp_path_factory.mktemp("figures"), "smoke", 32, 64)


@pytest.fixture(scope="module")
def real_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return concluded(tmp_path_factory.mktemp("real"), "mini")


@contextmanager
def without(paths: list[Path]) -> Iterator[None]:
    aside = [path.rename(path.with_name(f"{path.name}.aside")) for path in paths]
    try:
        yield
    finally:
        for path, moved in zip(paths, aside, strict=True):
            moved.rename(path)


@pytest.mark.parametrize("name", list(figures.all_figures()))
def test_a_figure_reads_what_it_names_and_nothing_else(run: Run, real_run: Run, name: str) -> None:
    run = run if name in figures.expected(run.profile) else real_run
    needed = figures.get_figure(name).files(run)
    others = [path for path in run.paths.results.rglob("*.*") if path not in needed]
    assert needed and others
    with without(others):
        saved = figures.draw(run, name)
        assert saved.svg.stat().st_size > 1000 and saved.png.stat().st_size > 1000 and 'alt="' in saved._repr_html_()
    for path in needed:
        with without([path]):
            told = f"{name}: not drawn, as the run has no {path.relative_to(run.paths.run).as_posix()}"
            assert repr(figures.draw(run, name)) == repr(figures.show(run, name)) == told
            assert name not in figures.available(run)


def test_a_file_that_is_not_named_is_refused(run: Run) -> None:
    results = figures.Results(run, (ClaimsResult,))
    for read in (lambda: results[SignificanceResult], lambda: results.each(TaskScores)):
        with pytest.raises(ValueError, match="read by a figure that does not name it"):
            read()


def test_a_figure_of_ones_own_is_one_file(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "parameters.py").write_text(OWN, encoding="utf-8")
    monkeypatch.setattr(figures, "__path__", [*figures.__path__, str(tmp_path)])
    names = figures.expected(run.profile)
    assert names.index("claims") < names.index("parameters")
    saved = [figures.draw(run, name) for name in ("parameters", "claims")]
    report = unescape(write_report(run).read_text(encoding="utf-8"))
    assert 0 < report.index(f'alt="{saved[1].caption}"') < report.index('alt="Parameters of every model."')
    (tmp_path / "sizes.py").write_text(OWN, encoding="utf-8")
    with pytest.raises(UserError, match=r"figures/sizes.py: its figure is called 'parameters'; give both one name"):
        figures.all_figures()
    for path in run.paths.figures.glob("parameters.*"):
        path.unlink()


def test_what_a_profile_leads_to(run: Run, real_run: Run) -> None:
    names = set(figures.all_figures())
    assert figures.expected(run.profile) == figures.available(run)
    assert names - set(figures.available(run)) == {
        "time_to_quality",
        "published_and_ours",
    }  # smoke has one recipe, and no real text
    assert names - set(figures.available(real_run)) == {"planted_bias", "learning_curve"}
    of_arms = figures.Figure("arms", "Every arm.", (ArmResult,), lambda results: new_figure())
    assert of_arms.files(run) == [ArmResult.path(run, arm=arm) for arm in run.profile.corpus.arms]
    released = set(figures.expected(load_profile("published")))
    assert names - released == {"loss_curves", "time_to_quality", "planted_bias", "learning_curve"}


def test_the_plan_need_not_wait_for_what_draws() -> None:
    code = (
        "import sys; from robbertje_lib.experiment.profile import load_profile; from robbertje_lib.show import figures; "
        "figures.expected(load_profile('mini')); print(*{'matplotlib', 'pandas', 'seaborn', 'scipy'} & set(sys.modules))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == ""


def test_a_figure_without_results_is_not_drawn_and_says_why(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert figures.available(run) == []
    assert "its text is real" in repr(figures.draw(run, "planted_bias"))
    assert "no results/distillation/non_shuffled.json" in repr(figures.draw(run, "loss_curves"))
    assert "no results/claims.json" in repr(figures.draw(run, "claims"))
    assert not run.paths.figures.exists()
    with pytest.raises(UserError, match="no figure 'claim': did you mean 'claims'"):
        figures.draw(run, "claim")


def test_shown_in_a_notebook_nothing_is_saved(run: Run) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.paths.figures.glob("*")}
    picture = figures.show(run, "calibration")
    assert picture.alt == figures.get_figure("calibration").caption and len(picture.data) > 1000
    assert {path: path.stat().st_mtime_ns for path in run.paths.figures.glob("*")} == before


def test_pseudo_perplexity_shows_each_distillation_the_interval_floor_and_unigram(run: Run) -> None:
    result, intervals = PseudoPerplexityResult.read(run), SignificanceResult.read(run).pseudo_perplexity
    (axes,) = figures.plot(run, "pseudo_perplexity").axes
    strokes = [line.get_xdata() for line in axes.lines if line.get_marker() == "|"]
    assert np.concatenate(strokes).tolist() == [model.corpus for model in result.models.values()]
    assert len(strokes) == len(run.profile.groups)
    drawn = [tuple(line.get_xdata()) for line in axes.lines if line.get_linewidth() == 2]
    assert drawn == [interval for group, interval in intervals.items() if group != "unigram"]
    upright = {line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "--"}
    assert upright == {result.floor, result.unigram}


def test_planted_bias_has_a_point_per_occupation(run: Run) -> None:
    panels = figures.plot(run, "planted_bias").axes
    rows = GenderBiasResult.read(run).planted.occupations
    for panel, models in zip(panels, run.profile.groups.values(), strict=False):
        read = [[row.read for row in rows if row.model == model] for model in models]
        planted = [row.planted for row in rows if row.model == models[0]]
        points = panel.collections[0].get_offsets()
        assert np.allclose(points, np.column_stack([planted, np.mean(read, axis=0)]))


def test_rank_difference_averages_over_templates_and_replicates(run: Run) -> None:
    table = PronounProbe.read(run).to_pandas()
    own = figures.plot(run, "rank_difference").axes[0].collections[1].get_offsets()
    replicates = table[table["model"].isin(run.profile.replicates_of("non_shuffled"))]
    assert np.allclose(own[:, 1], replicates.groupby("profession", sort=False)["rank_difference"].mean())


def test_stereotype_shows_the_level_and_each_replicate(run: Run) -> None:
    bias = GenderBiasResult.read(run)
    level, *panels = figures.plot(run, "stereotype").axes
    assert [text.get_text() for text in level.get_yticklabels()] == [label(group) for group in run.profile.groups]
    shown = [line.get_xdata() for line in level.lines if line.get_marker() == "."]
    groups = [models for models in run.profile.groups.values() if len(models) > 1]
    means = [[bias.models[name].metrics["log_odds"].mean for name in models] for models in groups]
    assert np.allclose(shown, means)
    for panel, measure in zip(panels, dict.fromkeys(row.measure for row in bias.stereotypes), strict=True):
        shown = [list(line.get_xdata()) for line in panel.lines if line.get_marker() == "."]
        rows = [row for row in bias.stereotypes if row.measure == measure]
        assert shown == [row.replicates for row in rows if len(row.replicates) > 1]


def test_files_carry_their_origin_and_caption(run: Run) -> None:
    saved = figures.draw(run, "claims")
    told = ElementTree.parse(saved.svg).getroot()
    dc = "{http://purl.org/dc/elements/1.1/}"
    assert told.find(f".//{dc}description").text == figures.get_figure("claims").caption
    for origin in (told.find(f".//{dc}source").text, Image.open(saved.png).info["Source"]):
        assert run.profile.stamp in origin and run.paths.run_name in origin and "commit" in origin


def test_equal_results_give_equal_bytes(run: Run) -> None:
    for name in ("pseudo_perplexity", "rank_difference"):
        first = {path: path.read_bytes() for path in (figures.draw(run, name).svg, figures.draw(run, name).png)}
        figures.draw(run, name)
        assert {path: path.read_bytes() for path in first} == first


def test_the_stamp_stands_below_everything_else(run: Run) -> None:
    drawn = figures.plot(run, "calibration")
    save_figure(drawn, run, "stamped", "A test.")
    renderer = FigureCanvasAgg(drawn).get_renderer()
    (stamp,) = [text for text in drawn.texts if text.get_gid() == "stamp"]
    lowest = min(axes.get_tightbbox(renderer).y0 for axes in drawn.axes)
    assert stamp.get_window_extent(renderer).y1 <= lowest
    run.paths.figures.joinpath("stamped.svg").unlink()
    run.paths.figures.joinpath("stamped.png").unlink()


def test_models_keep_their_colours_and_variants_differ_in_print() -> None:
    styles = looks(["teacher", "merged", "merged_same_lines", "non_shuffled_as_published", "mine"])
    assert styles["merged"].colour == styles["merged_same_lines"].colour == PALETTE["merged"]
    assert styles["merged"].marker != styles["merged_same_lines"].marker
    assert styles["non_shuffled_as_published"].colour == PALETTE["non_shuffled"]
    assert styles["mine"].colour not in PALETTE.values()


def test_a_name_that_leaves_the_folder_is_refused(run: Run) -> None:
    with pytest.raises(UserError, match="letters, digits and underscores"):
        save_figure(new_figure(), run, "../elsewhere", "A test.")


def test_time_to_quality_compares_students_that_differ_in_their_recipe_alone(real_run: Run) -> None:
    def write(student: str, values: list[float], slowness: float) -> None:
        for model in real_run.profile.replicates_of(student):
            write_one(model, values, slowness)

    def write_one(student: str, values: list[float], slowness: float) -> None:
        points = [
            HeldOutPoint(update=10 * i, tokens=1000 * i, seconds=9.0 * i, training_seconds=5.0 * i * slowness,
                         loss=float(np.log(value)), pseudo_perplexity=float(value))
            for i, value in enumerate(values)
        ]  # fmt: skip
        result = DistillationResult.read(real_run, student=student)
        result.model_copy(update={"held_out_curve": points}).write(real_run, student=student)

    write("non_shuffled_as_published", [900, 600, 300], 10)
    write("non_shuffled", [1000, 290, 80], 1)
    row, *others = compare_recipes(real_run)
    assert (row.published, row.other) == ("non_shuffled_as_published", "non_shuffled")
    assert (row.published_seconds, row.seconds, row.share) == (100.0, 5.0, 0.05)
    axes, *_ = figures.plot(real_run, "time_to_quality").axes
    assert len(others) == 4 and len([line for line in axes.lines if len(line.get_xdata()) == 3]) == 2 * 3
    assert {line.get_label() for line in axes.lines} >= {"non-shuffled", "non-shuffled as published"}
    assert "is there after 5 s,\nnon-shuffled as published after 100 s" in axes.texts[0].get_text()
    write("non_shuffled", [1000, 1000], 1)
    row = compare_recipes(real_run)[0]
    assert row.reached == [None] * 3 and row.share is None
    assert "does not get there" in figures.plot(real_run, "time_to_quality").axes[0].texts[0].get_text()


def test_the_live_curve_shows_what_the_progress_holds() -> None:
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output

    InteractiveShell.instance()
    curve = [
        CurvePoint(update=n, tokens=10**5 * n, seconds=1.0 * n, phase="masked", loss=9 / n, kl=1.0) for n in (1, 2)
    ]
    point = HeldOutPoint(update=1, tokens=10**5, seconds=1.0, training_seconds=1.0, loss=5.0, pseudo_perplexity=148.4)
    progress = SimpleNamespace(curve=curve, held_out_curve=[point])
    with capture_output() as captured:
        show = live_curve()
        show(SimpleNamespace(curve=[], held_out_curve=[]))
        show(progress)
        show(progress)
    first, second = captured.outputs
    assert not first.update and second.update  # drawn once, then drawn over
    assert len(first.data["image/png"]) > 1000


def test_no_figure_is_left_in_memory() -> None:
    assert isinstance(new_figure(), Figure)
    from matplotlib import pyplot

    assert pyplot.get_fignums() == []


def test_the_lengths_of_sequences_are_shares_of_an_arm(run: Run) -> None:
    fig = figures.plot(run, "sequence_lengths")
    (axes,) = fig.axes
    arms = [ArmResult.read(run, arm=arm) for arm in run.profile.corpus.arms]
    assert len(axes.containers) == len(arms) == 3
    for bars, arm in zip(axes.containers, arms, strict=True):
        store = arm.selections["head"]
        heights = [bar.get_height() for bar in bars]
        assert sum(heights) == pytest.approx(100)
        first = store.length_histogram.counts[0] / sum(store.length_histogram.counts)
        assert heights[0] == pytest.approx(100 * first)
        assert bars.get_label().endswith(f"mean {store.mean_tokens:.1f}")
    assert len({bar.patches[0].get_hatch() for bar in axes.containers}) == 3
    assert axes.get_xlabel().startswith("tokens") and axes.get_ylabel().endswith("%")


def test_a_long_tail_is_one_bin(run: Run) -> None:
    name = {"arm": "merged"}
    before = ArmResult.read(run, **name)
    store = before.selections["head"]
    histogram = store.length_histogram.model_copy(
        update={"edges": [0, 8, 16, 24, 32, 40], "counts": [0, 5000, 4960, 30, 10]}
    )
    stores = {"head": store.model_copy(update={"length_histogram": histogram})}
    arms = {arm: ArmResult.read(run, arm=arm) for arm in run.profile.corpus.arms}
    try:
        for arm, result in arms.items():
            result.model_copy(update={"selections": stores}).write(run, arm=arm)
        (axes,) = figures.plot(run, "sequence_lengths").axes
        assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0 to 7", "8 to 15", "16 to 23", "24 and more"]
        assert [bar.get_height() for bar in axes.containers[0]] == pytest.approx([0, 50, 49.6, 0.4])
    finally:
        for arm, result in arms.items():
            result.write(run, arm=arm)
