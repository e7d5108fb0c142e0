"""Every figure of the companion: result dictionaries in, a matplotlib figure out, nothing computed but positions.

Each function has a caption of the same name in `CAPTIONS`; `draw(run, name)` reads its results, draws and saves.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from textwrap import fill
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, NullFormatter, ScalarFormatter

from robbertje_lib.conclusions import published
from robbertje_lib.conclusions.time_to_quality import compare_recipes
from robbertje_lib.experiment.artefacts import read_json, read_parquet
from robbertje_lib.experiment.run import Run
from robbertje_lib.show.figure_style import (
    GREY,
    PALETTE,
    STYLE,
    VERDICT_COLOURS,
    Look,
    SavedFigure,
    label,
    looks,
    new_figure,
    save_figure,
)

Result = Mapping[str, Any]

CAPTIONS = {
    "pseudo_perplexity": "Pseudo-perplexity of every model on the held-out lines, with 95 % intervals; lower is "
    "better. Dashed lines: a unigram model and, where it is known, the floor no model can go below.",
    "task_scores": "Test score of every model on every task: mean over seeds with its 95 % interval over seeds and "
    "examples, and each seed as a small point. The dashed line is the majority class.",
    "loss_curves": "Held-out masked-language-model loss during training: the teacher by tokens, the students by tokens "
    "and by seconds. Shaded: the teacher's phases.",
    "time_to_quality": "Held-out pseudo-perplexity against seconds of training (evaluation not counted) for two "
    "recipes on the same arm and shape. The dotted line is what the published recipe ends with.",
    "rank_difference": "Rank of hij minus rank of zij per profession, mean over templates, against the gender that the "
    "profession is associated with: teacher in grey, student in colour. Below 0 the model ranks hij higher.",
    "planted_bias": "P(zij) that the probe reads for each occupation, mean over templates, against the P(zij) "
    "planted in the text; a perfect model and probe would lie on the dashed line.",
    "size_and_speed": "Mean test score over the tasks against the number of parameters and the latency of one "
    "sentence (median, with its spread over repetitions), one point per model.",
    "scores_by_length": "Test score by length of the input, in bins of about equally many test examples: mean over "
    "seeds with its 95 % interval over examples.",
    "p_values": "Difference between two models on each task, in points, coloured by direction where it is significant "
    "after Holm's correction; the number below is the adjusted p.",
    "published_and_ours": "Distance of every student to its teacher in each cell of the paper's table, published "
    "(hollow) and ours (filled), with 95 % intervals; the published ones take the scores as single runs.",
    "calibration": "How often each significance test rejects, by true difference: at 0 its type-I error, which should "
    "stay at or below the dotted nominal level, beyond 0 its power. Dashed: shortcuts that we do not use.",
    "claims": "Every claim of the paper with the verdict of this run and, where it can be tested, of the paper's own "
    "table.",
}


@dataclass(frozen=True)
class NotDrawn:
    """A figure that a run has no results for, and what is lacking; a notebook cell that ends in one says so."""

    name: str
    lacking: str

    def __repr__(self) -> str:
        return f"{self.name}: not drawn, as the run has no {self.lacking}"


def draw(run: Run, name: str) -> SavedFigure | NotDrawn:
    """Draw the figure `name` of `CAPTIONS` from the run's result files and save it."""
    lacking = _lacking(run, name)
    if lacking:
        return NotDrawn(name, lacking)
    with matplotlib.rc_context(STYLE):
        figure = DRAWINGS[name](run)
        return save_figure(figure, run, name, CAPTIONS[name])


def available(run: Run) -> list[str]:
    """Names of the figures that the run has results for, in the order of `CAPTIONS`."""
    return [name for name in CAPTIONS if not _lacking(run, name)]


def _lacking(run: Run, name: str) -> str:
    if name == "planted_bias" and run.profile.text != "known_answer":
        return "planted bias: its text is real"
    if name == "loss_curves":
        trained = [run.paths.result("distillation", f"{student}.json") for student in run.profile.students]
        return "" if any(path.is_file() for path in trained) else "distillation results"
    if name == "time_to_quality":
        return "" if compare_recipes(run) else "two students that differ in their recipe alone"
    return next((f"results/{need}" for need in NEEDS[name] if not run.paths.result(need).is_file()), "")


def pseudo_perplexity(result: Result) -> Figure:
    """A dot and interval per model on a logarithmic axis. result: `pseudo_perplexity.json`."""
    models = result["models"]
    styles = looks(models)
    fig = new_figure(height=0.9 + 0.32 * len(models))
    axes = fig.subplots()
    for row, (name, scores) in enumerate(models.items()):
        low, high = scores["corpus_interval"]
        look = styles[name]
        axes.plot([low, high], [row, row], color=look.colour, solid_capstyle="butt", linewidth=2)
        axes.plot(scores["corpus"], row, look.marker, color=look.colour)
        axes.annotate(f"{scores['corpus']:,.1f}", (scores["corpus"], row), (0, 5), textcoords="offset points",
                      ha="center", fontsize=7)  # fmt: skip
    for key, told in (("floor", "floor"), ("unigram", "unigram model")):
        if result.get(key):
            axes.axvline(result[key], color=GREY, linestyle="--", linewidth=1)
            axes.annotate(f"{told} {result[key]:,.1f}", (result[key], 1), (0, 2), xycoords=("data", "axes fraction"),
                          textcoords="offset points", ha="center", va="bottom", fontsize=7, color=GREY)  # fmt: skip
    axes.set_yticks(range(len(models)), [styles[name].label for name in models])
    axes.set_ylim(len(models) - 0.4, -0.7)
    axes.set_xscale("log")
    _plain_log_ticks(axes.xaxis, *axes.get_xlim())
    axes.set_xlabel(f"pseudo-perplexity ({result['lines']:,} held-out lines, {result['tokens']:,} tokens)")
    axes.grid(axis="y", visible=False)
    return fig


def _plain_log_ticks(axis: Axis, low: float, high: float) -> None:
    marks = [m * 10**e for e in range(-1, 7) for m in (1, 2, 5)]
    axis.set_major_locator(FixedLocator([m for m in marks if low <= m <= high]))
    axis.set_major_formatter(ScalarFormatter())
    axis.set_minor_formatter(NullFormatter())


def task_scores(significance: Result, majority: Mapping[str, float]) -> Figure:
    """Small multiples, one a task. significance: `significance.json`; majority: task -> score of the majority class."""
    frame = pd.DataFrame(significance["scores"])
    tasks, models = list(frame["task"].unique()), list(frame["model"].unique())
    styles = looks(models)
    fig, panels = _grid(len(tasks), columns=3, height=2.0)
    for axes, task in zip(panels, tasks, strict=False):
        rows = frame[frame["task"] == task].set_index("model")
        for x, model in enumerate(models):
            look, row = styles[model], rows.loc[model]
            seeds = 100 * np.array(row["seeds"])
            axes.plot([x, x], [100 * bound for bound in row["interval"]], color=look.colour, linewidth=2)
            axes.plot(x, 100 * row["score"], look.marker, color=look.colour, zorder=3)
            axes.plot(np.full(len(seeds), x + 0.22), seeds, ".", color=look.colour, markersize=3, alpha=0.8)
        if task in majority:
            axes.axhline(100 * majority[task], color=GREY, linestyle="--", linewidth=1)
        first = rows.iloc[0]
        axes.set_title(f"{_title(task)} (n = {first['n']:,})")
        axes.set_ylabel(f"{'F1' if first['metric'] == 'f1' else first['metric']}, %")
        axes.set_xticks([])
        axes.set_xlim(-0.6, len(models) - 0.2)
        axes.yaxis.set_major_locator(MaxNLocator(5))
    dashed = Line2D([], [], color=GREY, linestyle="--", linewidth=1, label="majority class")
    _legend(fig, panels, len(tasks), styles, extra=[dashed])
    return fig


def _grid(count: int, columns: int, height: float, **shared: Any) -> tuple[Figure, list[Axes]]:
    """A figure of panels, `columns` wide, with room for a legend in a last free panel or above."""
    columns = 2 if count == 4 else min(columns, count)
    rows = -(-count // columns)
    fig = new_figure(height=height * rows)
    panels = list(np.atleast_1d(fig.subplots(rows, columns, **shared)).ravel())
    for place, axes in enumerate(panels):
        if place >= count:
            axes.set_axis_off()
        elif place + columns >= count:
            axes.tick_params(labelbottom=True)  # the lowest of its column, which sharing would leave bare
    return fig, panels


def _legend(
    fig: Figure,
    panels: Sequence[Axes],
    used: int,
    styles: Mapping[str, Look],
    lines: bool = False,
    extra: Sequence[Any] = (),
) -> None:
    """One legend for all panels: in a free panel where there is one, else above them."""
    handles = [
        Line2D(
            [], [], color=s.colour, marker="" if lines else s.marker, linestyle=s.line if lines else "", label=s.label
        )
        for s in styles.values()
    ]
    handles = [*handles, *extra]
    if used < len(panels):
        panels[used].legend(handles=handles, loc="center left")
    else:
        fig.legend(handles=handles, loc="outside upper left", ncols=5 if len(handles) != 6 else 3)


def _title(task: str) -> str:
    return published.TITLES.get(task, task)


def loss_curves(teacher: Result | None, students: Mapping[str, Result]) -> Figure:
    """Three panels of held-out loss. teacher: `teacher.json` or None; students: name -> `distillation/<name>.json`."""
    styles = looks(students)
    fig, panels = _grid(3 if teacher else 2, columns=3, height=2.6)
    if teacher:
        _teacher_panel(panels[0], teacher)
    scales = (("tokens", "million tokens", 1e6), ("seconds", "seconds", 1))
    shared: Axes | None = None
    for axes, (column, unit, divisor) in zip(panels[-2:], scales, strict=True):
        for name, training in students.items():
            points = training["held_out_curve"]
            axes.plot([p[column] / divisor for p in points], [p["loss"] for p in points],
                      styles[name].line, color=styles[name].colour)  # fmt: skip
        axes.set_xlabel(unit)
        axes.set_title("students")
        if shared is not None:
            axes.sharey(shared)
        shared = axes
    panels[0].set_ylabel("held-out loss, nats/token")
    _legend(fig, panels, len(panels), styles, lines=True)
    return fig


def _teacher_panel(axes: Axes, teacher: Result) -> None:
    points = teacher["held_out_curve"]
    axes.plot(
        [p["tokens"] / 1e6 for p in points], [p["loss"] for p in points], color=looks(["teacher"])["teacher"].colour
    )
    phases = pd.DataFrame(teacher["curve"])
    spans = phases.groupby("phase", sort=False)["tokens"].agg(["min", "max"]) / 1e6
    for number, (phase, span) in enumerate(spans.iterrows()):
        if number % 2 == 0 and len(spans) > 1:
            axes.axvspan(span["min"], span["max"], color="#F0F0F0", zorder=0)
        axes.annotate(str(phase), ((span["min"] + span["max"]) / 2, 0.98), xycoords=("data", "axes fraction"),
                      ha="center", va="top", fontsize=7, color=GREY)  # fmt: skip
    axes.set_title("teacher")
    axes.set_xlabel("million tokens")
    axes.margins(y=0.15)


def time_to_quality(rows: Sequence[Result]) -> Figure:
    """A panel per pair of recipes. rows: those of `time_to_quality.compare_recipes`."""
    fig, panels = _grid(len(rows), columns=2, height=3.0)
    for axes, row in zip(panels, rows, strict=False):
        styles = looks(row["curves"])
        for name, curve in row["curves"].items():
            look = styles[name]
            axes.plot([p["training_seconds"] for p in curve], [p["pseudo_perplexity"] for p in curve], look.line,
                      marker=look.marker, color=look.colour, label=look.label)  # fmt: skip
        axes.axhline(row["pseudo_perplexity"], color=GREY, linestyle=":", linewidth=1)
        told = f"{label(row['other'])} does not get there"
        if row["reached_seconds"] is not None:
            when = f"is there after {row['reached_seconds']:.0f} s" if row["reached_seconds"] else "starts below it"
            told = f"{label(row['other'])} {when}, {label(row['published'])} after {row['seconds']:.0f} s"
        axes.annotate(told, (1, row["pseudo_perplexity"]), (0, -8), xycoords=("axes fraction", "data"),
                      textcoords="offset points", ha="right", va="top", fontsize=7, color=GREY)  # fmt: skip
        axes.set_yscale("log")
        _plain_log_ticks(axes.yaxis, *axes.get_ylim())
        axes.set_xlabel("seconds of training")
        axes.legend()
    panels[0].set_ylabel("held-out pseudo-perplexity")
    return fig


def live_curve() -> Callable[[Any], None]:
    """A figure below the notebook's cell that grows while a model trains: pass it as `show` to `distil`.

    It is called with a `training.Progress`, and draws its loss, the loss's parts, and the held-out loss.
    """
    from IPython.display import DisplayHandle, Image  # only notebooks have it

    handle = DisplayHandle()
    shown = False

    def show(progress: Any) -> None:
        nonlocal shown
        if not progress.curve:
            return
        png = BytesIO()
        with matplotlib.rc_context(STYLE):
            _progress_figure(progress.curve, progress.held_out_curve).savefig(png)
        (handle.update if shown else handle.display)(Image(png.getvalue(), alt="losses of the training so far"))
        shown = True

    return show


def _progress_figure(curve: Sequence[Result], held_out: Sequence[Result]) -> Figure:
    fig = new_figure(height=2.4)
    panels = fig.subplots(1, 2)
    parts = [key for key in curve[-1] if key not in {"update", "tokens", "seconds", "phase"}]
    for part, line in zip(parts, ("-", "--", ":", "-."), strict=False):
        panels[0].plot([p["tokens"] / 1e6 for p in curve], [p.get(part, np.nan) for p in curve], line, label=part)
    panels[0].legend()
    panels[0].set_ylabel("training loss")
    panels[1].plot([p["tokens"] / 1e6 for p in held_out], [p["loss"] for p in held_out], "o-", color=PALETTE["teacher"])
    panels[1].set_ylabel("held-out loss, nats/token")
    for axes in panels:
        axes.set_xlabel("million tokens")
    return fig


def rank_difference(bias: pd.DataFrame) -> Figure:
    """Small multiples, a student each, with the teacher behind. bias: `gender_bias.parquet`."""
    known = bias[bias["form"] == "base"].dropna(subset=["associated_gender"])
    mean = known.groupby(["model", "profession"], sort=False, observed=True)[
        ["associated_gender", "rank_difference"]
    ].mean()
    mean = mean.reset_index()
    mean["model"] = mean["model"].astype(str)
    models = list(mean["model"].unique())
    students = [name for name in models if name != "teacher"]
    styles = looks(models)
    # Associated gender comes in steps of 0.1: spread the points so that each can be seen.
    shift = np.random.default_rng(0).uniform(-0.03, 0.03, len(mean))
    mean["x"] = mean["associated_gender"] + shift
    fig, panels = _grid(len(students), columns=3, height=2.1, sharex=True, sharey=True)
    teacher = mean[mean["model"] == "teacher"]
    for axes, name in zip(panels, students, strict=False):
        own = mean[mean["model"] == name]
        axes.axhline(0, color=GREY, linewidth=0.8)
        sns.scatterplot(teacher, x="x", y="rank_difference", ax=axes, color="#BDBDBD", s=9, linewidth=0)
        sns.scatterplot(own, x="x", y="rank_difference", ax=axes, color=styles[name].colour, s=9, linewidth=0,
                        marker=styles[name].marker)  # fmt: skip
        axes.set(xlabel="", ylabel="", title=styles[name].label)
    if mean["rank_difference"].abs().max() > 100:
        for axes in panels:
            axes.set_yscale("symlog", linthresh=10)
            axes.yaxis.set_major_locator(FixedLocator([sign * 10**e for e in range(1, 6) for sign in (-1, 1)] + [0]))
            axes.yaxis.set_major_formatter(ScalarFormatter())
    fig.supxlabel("associated gender of the profession (−1 zij, +1 hij)", fontsize=9)
    fig.supylabel("rank of hij − rank of zij", fontsize=9)
    return fig


def planted_bias(points: pd.DataFrame) -> Figure:
    """Read against planted bias, a panel a model. points: columns model, planted, read, in P(zij)."""
    models = list(dict.fromkeys(points["model"].astype(str)))
    styles = looks(models)
    fig, panels = _grid(len(models), columns=3, height=2.1, sharex=True, sharey=True)
    for axes, name in zip(panels, models, strict=False):
        own = points[points["model"] == name]
        bounds = [0.0, 1.0]
        axes.plot(bounds, bounds, color=GREY, linewidth=0.8, linestyle="--")
        sns.scatterplot(own, x="planted", y="read", ax=axes, color=styles[name].colour, s=14, linewidth=0,
                        marker=styles[name].marker)  # fmt: skip
        axes.set(xlabel="", ylabel="", title=styles[name].label)
        if own["planted"].nunique() > 1:
            told = f"Spearman {own['planted'].corr(own['read'], method='spearman'):.2f}"
            axes.annotate(told, (0.04, 0.97), xycoords="axes fraction", va="top", fontsize=8)
    fig.supxlabel("planted P(zij) of the occupation", fontsize=9)
    fig.supylabel("P(zij) read by the probe", fontsize=9)
    return fig


def size_and_speed(efficiency: Result, significance: Result) -> Figure:
    """Mean score against parameters and latency. Arguments: `efficiency.json`, `significance.json`."""
    models = efficiency["models"]
    mean = pd.DataFrame(significance["scores"]).groupby("model")["score"].mean() * 100
    styles = looks(models)
    fig, panels = _grid(2, columns=2, height=2.6, sharey=True)
    for name, costs in models.items():
        look = styles[name]
        panels[0].plot(costs["parameters"] / 1e6, mean[name], look.marker, color=look.colour, markersize=7)
        spread = costs["latency_ms"]
        panels[1].plot([spread["low"], spread["high"]], [mean[name]] * 2, color=look.colour, linewidth=2)
        panels[1].plot(spread["median"], mean[name], look.marker, color=look.colour, markersize=7)
    panels[0].set(xlabel="parameters, million", ylabel="mean score over tasks, %")
    panels[1].set(xlabel="latency of one sentence, ms")
    for axes in panels:
        axes.margins(0.1, 0.15)
        axes.set_xlim(left=0)
    _legend(fig, panels, 2, styles)
    return fig


def scores_by_length(scores: Mapping[str, Result]) -> Figure:
    """Score by length bin, a panel a task. scores: task -> `scores/<task>.json`."""
    models = list(dict.fromkeys(name for result in scores.values() for name in result["by_length"]["models"]))
    styles = looks(models)
    fig, panels = _grid(len(scores), columns=3, height=2.0)
    for axes, (task, result) in zip(panels, scores.items(), strict=False):
        bins = result["by_length"]["bins"]
        for number, (model, values) in enumerate(result["by_length"]["models"].items()):
            look = styles[model]
            x = np.arange(len(bins)) + (number - (len(models) - 1) / 2) * 0.7 / len(models)
            axes.vlines(x, *(100 * np.array([v["interval"] for v in values]).T), color=look.colour, linewidth=1.3)
            axes.plot(x, [100 * v["score"] for v in values], look.marker, color=look.colour, markersize=3.5)
        edges = [f"{b['low']}–{b['high']}" if b["low"] < b["high"] else str(b["low"]) for b in bins]
        axes.set_xticks(range(len(bins)), edges, fontsize=7)
        axes.set_title(f"{_title(task)} ({'F1' if result['metric'] == 'f1' else result['metric']})")
        axes.grid(axis="x", visible=False)
    fig.supxlabel("tokens of the input, special tokens included", fontsize=9)
    fig.supylabel("score, %", fontsize=9)
    _legend(fig, panels, len(scores), styles)
    return fig


def p_values(significance: Result) -> Figure:
    """Pairs by tasks: difference in points and adjusted p. significance: `significance.json`."""
    frame = pd.DataFrame(significance["comparisons"])
    frame = frame[frame["task"] != "pseudo_perplexity"]
    frame["pair"] = frame["a"].map(label) + " – " + frame["b"].map(label)
    tasks, pairs = list(frame["task"].unique()), list(frame["pair"].unique())
    wide = frame.pivot_table(index="pair", columns="task", values=["difference", "adjusted_p"], sort=False)
    points = 100 * wide["difference"].loc[pairs, tasks]
    adjusted = wide["adjusted_p"].loc[pairs, tasks]
    significant = adjusted <= significance["alpha"]
    shown = np.sign(points).where(significant, 0)
    told = points.map("{:+.1f}".format) + "\n" + adjusted.map(_p)
    fig = new_figure(height=0.9 + 0.36 * len(pairs))
    axes = fig.subplots()
    # Blue where the first model is better, vermilion where the second is, white where neither can be told.
    sns.heatmap(
        shown.to_numpy(),
        annot=told.to_numpy(),
        fmt="",
        cmap=["#F2B48C", "#FFFFFF", "#9CC9E8"],
        vmin=-1.5,
        vmax=1.5,
        cbar=False,
        linewidths=0.5,
        linecolor="#CCCCCC",
        annot_kws={"size": 6.5, "color": "#111111"},
        ax=axes,
    )
    axes.set_xticklabels([_title(task) for task in tasks], rotation=0)
    axes.set_yticklabels(pairs, rotation=0)
    axes.tick_params(length=0)
    axes.set_xlabel(
        f"blue: first better, orange: second better, white: undecided at {significance['alpha']:g}", fontsize=8
    )
    families = frame.drop_duplicates("pair")["family"].tolist()
    for row in range(1, len(families)):
        if families[row] != families[row - 1]:
            axes.axhline(row, color="#333333", linewidth=1.2)
    return fig


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}" if value < 0.1 else f"p = {value:.2f}"


AGREEMENT_COLOURS = {
    "same direction": VERDICT_COLOURS["supported"],
    "opposite direction": VERDICT_COLOURS["contradicted"],
    "undecided": VERDICT_COLOURS["undecided"],
}


def agreement(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Whether two intervals say the same of a difference: `undecided` if either holds 0."""
    if not all(abs(np.sign(interval).sum()) == 2 for interval in (ours, theirs)):  # nan: an unknown interval
        return "undecided"
    return "same direction" if np.sign(ours[0]) == np.sign(theirs[0]) else "opposite direction"


def published_and_ours(significance: Result, paper: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Student minus teacher, published and ours. paper: student -> task -> (difference, low, high), scores in 0..1."""
    ours = {
        (row["a"], row["task"]): row for row in significance["comparisons"] if row["family"] == "students_vs_teacher"
    }
    students = [name for name in paper if any((name, task) in ours for task in paper[name])]
    tasks = [task for task in published.TASKS if any((name, task) in ours for name in students)]
    fig, panels = _grid(len(tasks), columns=3, height=1.9, sharey=True)
    for axes, task in zip(panels, tasks, strict=False):
        axes.axvline(0, color=GREY, linewidth=0.8)
        for y, name in enumerate(students):
            row, cell = ours.get((name, task)), paper[name].get(task)
            verdict = agreement(row["interval"], cell[1:]) if row and cell else "undecided"
            colour = AGREEMENT_COLOURS[verdict]
            if cell:
                axes.plot([100 * v for v in cell[1:]], [y - 0.15] * 2, color=colour, linewidth=1)
                axes.plot(100 * cell[0], y - 0.15, "o", color=colour, markerfacecolor="white", markersize=4.5)
            if row:
                axes.plot([100 * v for v in row["interval"]], [y + 0.15] * 2, color=colour, linewidth=2)
                axes.plot(100 * row["difference"], y + 0.15, "o", color=colour, markersize=4.5)
        axes.set_title(_title(task))
        axes.set_yticks(range(len(students)), [label(name) for name in students])
        axes.set_ylim(len(students) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.xaxis.set_major_locator(MaxNLocator(5))
    fig.supxlabel("student − teacher, points", fontsize=9)
    handles = [
        Line2D([], [], color="#444444", marker="o", markerfacecolor="white", linewidth=1, label="published"),
        Line2D([], [], color="#444444", marker="o", linewidth=2, label="this run"),
        *(Line2D([], [], color=c, marker="s", linestyle="", label=name) for name, c in AGREEMENT_COLOURS.items()),
    ]
    _legend(fig, panels, len(tasks), {}, extra=handles)
    return fig


def calibration(study: Result) -> Figure:
    """Rejection rate by true difference, a panel a kind of data. study: `significance.json`'s `calibration`."""
    frame = pd.DataFrame(study["rates"])
    kinds = list(frame["data"].unique())
    titles = {"alike": f"equivalence within {100 * study['margin']:g} points"}
    fig, panels = _grid(len(kinds), columns=2, height=2.4, sharey=True)
    colours = sns.color_palette("colorblind")
    for axes, kind in zip(panels, kinds, strict=True):
        rows = frame[frame["data"] == kind]
        for number, name in enumerate(rows["test"].unique()):
            own = rows[rows["test"] == name]
            offered = bool(own["offered"].iloc[0])
            marker, _ = ("o", "-") if offered else ("x", "--")
            x = 100 * own["difference"].to_numpy() + 0.08 * number
            axes.plot(x, own["rejected"], "-" if offered else "--", marker=marker, color=colours[number], label=name,
                      linewidth=1.2, markersize=4)  # fmt: skip
            axes.vlines(x, *np.array(own["interval"].tolist()).T, color=colours[number], linewidth=0.8)
        axes.axhline(study["alpha"], color=GREY, linestyle=":", linewidth=1.2)
        axes.set_title(titles.get(kind, kind))
        axes.set_xlabel("points inside the margin" if kind == "alike" else "true difference, points")
        axes.legend(loc="upper left", fontsize=7)
        axes.set_ylim(-0.02, 1.02)
    for axes in panels[::2]:
        axes.set_ylabel("share rejected")
    return fig


def claims(result: Result) -> Figure:
    """A row a claim and setting: verdict of this run, and of the paper's table. result: `claims.json`."""
    rows = result["claims"]
    named = [row["id"] for row in rows]
    fig = new_figure(height=0.6 + 0.36 * len(rows))
    axes = fig.subplots()
    names = []
    for y, row in enumerate(rows):
        setting = f" [{row['setting'].replace('_', ' ')}]" if named.count(row["id"]) > 1 else ""
        names.append(fill(row["claim"] + setting, 52))
        for x, verdict in ((0, row["verdict"]), (1, row["published_verdict"])):
            if verdict:
                axes.barh(y, 0.94, 0.8, left=x - 0.47, color=VERDICT_COLOURS[verdict])
                axes.text(x, y, verdict.replace("_", " "), ha="center", va="center", fontsize=7,
                          color="#222222" if verdict == "not_tested" else "white")  # fmt: skip
    axes.set_yticks(range(len(rows)), names, fontsize=7)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(-0.5, 1.5)
    axes.set_xticks([0, 1], [f"this run ({result['kind']})", "the paper's own table"])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return fig


def _read(run: Run, *parts: str) -> dict[str, Any]:
    return read_json(run.paths.result(*parts))


def _scores(run: Run) -> dict[str, Any]:
    return {task: _read(run, "scores", f"{task}.json") for task in run.profile.finetuning.tasks}


def _majority(run: Run) -> dict[str, float]:
    return {task: result["majority_baseline"] for task, result in _scores(run).items()}


def _draw_loss_curves(run: Run) -> Figure:
    teacher = run.paths.result("teacher.json")
    students = {name: _read(run, "distillation", f"{name}.json") for name in run.profile.students
                if run.paths.result("distillation", f"{name}.json").is_file()}  # fmt: skip
    return loss_curves(read_json(teacher) if teacher.is_file() else None, students)


def _draw_rank_difference(run: Run) -> Figure:
    return rank_difference(read_parquet(run.paths.result("gender_bias.parquet")).to_pandas())


def _draw_published(run: Run) -> Figure:
    return published_and_ours(_read(run, "significance.json"), published.distances_to_teacher())


DRAWINGS: dict[str, Callable[[Run], Figure]] = {
    "pseudo_perplexity": lambda run: pseudo_perplexity(_read(run, "pseudo_perplexity.json")),
    "task_scores": lambda run: task_scores(_read(run, "significance.json"), _majority(run)),
    "loss_curves": _draw_loss_curves,
    "time_to_quality": lambda run: time_to_quality(compare_recipes(run)),
    "rank_difference": _draw_rank_difference,
    "planted_bias": lambda run: planted_bias(pd.DataFrame(_read(run, "gender_bias.json")["planted"]["occupations"])),
    "size_and_speed": lambda run: size_and_speed(_read(run, "efficiency.json"), _read(run, "significance.json")),
    "scores_by_length": lambda run: scores_by_length(_scores(run)),
    "p_values": lambda run: p_values(_read(run, "significance.json")),
    "published_and_ours": _draw_published,
    "calibration": lambda run: calibration(_read(run, "significance.json")["calibration"]),
    "claims": lambda run: claims(_read(run, "claims.json")),
}
NEEDS: dict[str, tuple[str, ...]] = {
    "pseudo_perplexity": ("pseudo_perplexity.json",),
    "task_scores": ("significance.json",),
    "rank_difference": ("gender_bias.parquet",),
    "planted_bias": ("gender_bias.json",),
    "size_and_speed": ("efficiency.json", "significance.json"),
    "scores_by_length": ("significance.json",),
    "p_values": ("significance.json",),
    "published_and_ours": ("significance.json",),
    "calibration": ("significance.json",),
    "claims": ("claims.json",),
}
