"""Figures: the plotted data are those of the results, the files carry their origin, equal results give equal bytes."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from robbertje_lib.conclusions.claims import decide_claims
from robbertje_lib.conclusions.comparisons import compare_models
from robbertje_lib.conclusions.time_to_quality import compare_recipes
from robbertje_lib.distillation.training import Progress
from robbertje_lib.experiment.artefacts import read_json, read_parquet, write_json
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.run import Run
from robbertje_lib.show import figures
from robbertje_lib.show.figure_style import PALETTE, looks, new_figure, save_figure
from tests.support.result_files import World, make_run, write_results


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = make_run(tmp_path_factory.mktemp("figures"), "smoke")
    write_results(run, World(examples=60, skill={"teacher": 0.9, "bort": 0.6}))
    compare_models(run)
    decide_claims(run)
    return run


def test_every_figure_of_the_run_is_drawn_and_saved(run: Run) -> None:
    assert list(figures.CAPTIONS) == list(figures.DRAWINGS)
    drawn = [name for name in figures.CAPTIONS if name != "time_to_quality"]  # smoke has one recipe
    assert figures.available(run) == drawn
    for name in drawn:
        saved = figures.draw(run, name)
        assert saved.svg.stat().st_size > 1000 and saved.png.stat().st_size > 1000
        assert 'alt="' in saved._repr_html_()


def test_a_figure_without_results_is_not_drawn_and_says_why(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert figures.available(run) == []
    assert "its text is real" in repr(figures.draw(run, "planted_bias"))
    assert "no distillation results" in repr(figures.draw(run, "loss_curves"))
    assert "no results/claims.json" in repr(figures.draw(run, "claims"))
    assert not run.paths.figures.exists()


def test_pseudo_perplexity_shows_each_model_floor_and_unigram(run: Run) -> None:
    result = read_json(run.paths.result("pseudo_perplexity.json"))
    (axes,) = figures.pseudo_perplexity(result).axes
    shown = {round(float(line.get_xdata()[0]), 6) for line in axes.lines if len(np.atleast_1d(line.get_xdata())) == 1}
    assert shown == {round(model["corpus"], 6) for model in result["models"].values()}
    upright = {line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "--"}
    assert upright == {result["floor"], result["unigram"]}


def test_task_scores_show_each_seed(run: Run) -> None:
    significance = read_json(run.paths.result("significance.json"))
    drawn = figures.task_scores(significance, {"dbrd": 0.5})
    panel = drawn.axes[0]
    points = [line for line in panel.lines if line.get_marker() == "."]
    expected = [100 * np.array(row["seeds"]) for row in significance["scores"] if row["task"] == "dbrd"]
    assert all(np.allclose(line.get_ydata(), seeds) for line, seeds in zip(points, expected, strict=True))


def test_planted_bias_has_a_point_per_occupation(run: Run) -> None:
    planted = read_json(run.paths.result("gender_bias.json"))["planted"]
    drawn = figures.planted_bias(figures.pd.DataFrame(planted["occupations"]))
    points = drawn.axes[0].collections[0].get_offsets()
    own = [(row["planted"], row["read"]) for row in planted["occupations"] if row["model"] == "teacher"]
    assert np.allclose(points, own)


def test_rank_difference_averages_over_templates(run: Run) -> None:
    table = read_parquet(run.paths.result("gender_bias.parquet")).to_pandas()
    drawn = figures.rank_difference(table)
    own = drawn.axes[0].collections[1].get_offsets()
    expected = table[table["model"] == "non_shuffled"].groupby("profession", sort=False)["rank_difference"].mean()
    assert np.allclose(own[:, 1], expected)


def test_p_values_colour_what_is_significant(run: Run) -> None:
    significance = read_json(run.paths.result("significance.json"))
    (axes,) = figures.p_values(significance).axes
    shown = axes.collections[0].get_array().ravel()
    rows = [row for row in significance["comparisons"] if row["task"] != "pseudo_perplexity"]
    expected = sum(row["adjusted_p"] <= significance["alpha"] for row in rows)
    assert np.count_nonzero(shown) == expected > 0


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict"),
    [
        ((-3, -1), (-5, -2), "same direction"),
        ((-3, -1), (1, 2), "opposite direction"),
        ((-3, 1), (1, 2), "undecided"),
        ((-3, -1), (float("nan"), float("nan")), "undecided"),
    ],
)
def test_agreement_with_the_paper(ours: tuple, theirs: tuple, verdict: str) -> None:
    assert figures.agreement(ours, theirs) == verdict


def test_files_carry_their_origin_and_caption(run: Run) -> None:
    saved = figures.draw(run, "claims")
    told = ElementTree.parse(saved.svg).getroot()
    dc = "{http://purl.org/dc/elements/1.1/}"
    assert told.find(f".//{dc}description").text == figures.CAPTIONS["claims"]
    for origin in (told.find(f".//{dc}source").text, Image.open(saved.png).info["Source"]):
        assert run.profile.stamp in origin and run.paths.run_name in origin and "commit" in origin


def test_equal_results_give_equal_bytes(run: Run) -> None:
    for name in ("pseudo_perplexity", "rank_difference"):
        first = {path: path.read_bytes() for path in (figures.draw(run, name).svg, figures.draw(run, name).png)}
        figures.draw(run, name)
        assert {path: path.read_bytes() for path in first} == first


def test_the_stamp_stands_below_everything_else(run: Run) -> None:
    drawn = figures.calibration(read_json(run.paths.result("significance.json"))["calibration"])
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


def test_time_to_quality_compares_students_that_differ_in_their_recipe_alone(tmp_path: Path) -> None:
    run = make_run(tmp_path, "mini")
    assert figures.available(run) == []
    curves = {"non_shuffled_as_published": [900, 600, 300], "non_shuffled": [1000, 290, 80]}
    for student, values in curves.items():
        slowness = 10 if "as_published" in student else 1
        points = [
            {"update": 10 * i, "tokens": 1000 * i, "seconds": 9.0 * i, "training_seconds": 5.0 * i * slowness,
             "loss": float(np.log(value)), "pseudo_perplexity": float(value)}
            for i, value in enumerate(values)
        ]  # fmt: skip
        write_json(run.paths.result("distillation", f"{student}.json"), {"held_out_curve": points})
    (row,) = compare_recipes(run)
    assert (row["published"], row["other"]) == ("non_shuffled_as_published", "non_shuffled")
    assert (row["seconds"], row["reached_seconds"], row["share"]) == (100.0, 5.0, 0.05)
    (axes,) = figures.time_to_quality([row]).axes
    assert {line.get_label() for line in axes.lines} >= {"non-shuffled", "non-shuffled as published"}
    assert "is there after 5 s, non-shuffled as published after 100 s" in axes.texts[0].get_text()
    low = [*row["curves"]["non_shuffled"][:1]] * 2
    write_json(run.paths.result("distillation", "non_shuffled.json"), {"held_out_curve": low})
    (row,) = compare_recipes(run)
    assert row["reached_seconds"] is row["share"] is None
    assert "does not get there" in figures.time_to_quality([row]).axes[0].texts[0].get_text()


def test_the_live_curve_shows_what_the_progress_holds() -> None:
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output

    InteractiveShell.instance()
    progress = Progress(
        curve=[
            {"update": n, "tokens": 1e5 * n, "seconds": n, "phase": "masked", "loss": 9.0 / n, "kl": 1.0}
            for n in (1, 2)
        ],
        held_out_curve=[{"update": 1, "tokens": 1e5, "loss": 5.0}],
    )
    with capture_output() as captured:
        show = figures.live_curve()
        show(Progress())
        show(progress)
        show(progress)
    first, second = captured.outputs
    assert not first.update and second.update  # drawn once, then drawn over
    assert len(first.data["image/png"]) > 1000


def test_no_figure_is_left_in_memory() -> None:
    assert isinstance(new_figure(), Figure)
    from matplotlib import pyplot

    assert pyplot.get_fignums() == []
