"""How well every model does every task, beside random weights and what needs no network: a panel a task."""

import numpy as np

from robbertje_lib.conclusions.published import TITLES
from robbertje_lib.experiment.results.finetuning import TEST, ZERO_SHOT, TaskScores
from robbertje_lib.experiment.results.significance import Score, SignificanceResult
from robbertje_lib.show.figure_style import (
    GREY,
    Axes,
    Look,
    Picture,
    grid,
    label,
    legend,
    line_entry,
    looks,
    score_label,
)
from robbertje_lib.show.figures import Figure, Results

BASIS = "#A34700"  # of the best baseline


def plot(results: Results) -> Picture:
    from matplotlib.ticker import MaxNLocator

    significance, profile = results[SignificanceResult], results.profile
    scores = {
        (row.task, row.group): row
        for row in significance.scores
        if row.test_set == TEST and row.train in {significance.largest[row.task], 0}
    }
    told = results.each(TaskScores)
    styles = looks(profile.groups)
    fig, panels = grid(len(told), columns=3, height=2.2)
    for axes, (task, task_scores) in zip(panels, told.items(), strict=False):
        for x, group in enumerate(profile.groups):
            control, untuned = scores[task, profile.control_of(group)], scores.get((task, ZERO_SHOT + group))
            _draw(axes, x, scores[task, group], styles[group])
            _draw(axes, x - 0.28, control, styles[group], hollow=True)
            if untuned:
                axes.plot(x + 0.3, 100 * untuned.score, "x", color=styles[group].colour, markersize=4)
        best = task_scores.best_baseline(significance.largest[task])
        if task_scores.metric != "f1":  # of which the majority class has none
            axes.axhline(100 * scores[task, "majority"].score, color=GREY, linestyle="--", linewidth=1)
        axes.axhline(100 * scores[task, best].score, color=BASIS, linewidth=1)
        row = scores[task, "teacher"]
        axes.set(title=f"{TITLES.get(task, task)} (n = {row.n:,})", ylabel=f"{score_label(row.metric)}, %")
        axes.set(xticks=[], xlim=(-0.7, len(profile.groups) - 0.3))
        axes.set_xlabel(f"line: {label(best)}", fontsize=7, color=BASIS)
        axes.yaxis.set_major_locator(MaxNLocator(5))
    extra = [
        line_entry("random weights", GREY, marker="o", markerfacecolor="white", linestyle=""),
        line_entry("best baseline", BASIS, linewidth=1),
        line_entry("majority class", GREY, linestyle="--", linewidth=1),
    ]
    if any(group.startswith(ZERO_SHOT) for _, group in scores):
        extra.append(line_entry("not fine-tuned", GREY, marker="x", linestyle=""))
    legend(fig, panels, len(told), styles, extra=extra)
    return fig


def _draw(axes: Axes, x: float, row: Score, look: Look, hollow: bool = False) -> None:
    """A score with its interval; of a model, its runs beside it too."""
    axes.plot([x, x], [100 * bound for bound in row.interval], color=look.colour, linewidth=1 if hollow else 2)
    axes.plot(x, 100 * row.score, look.marker, color=look.colour, zorder=3, markersize=4 if hollow else None,
              markerfacecolor="white" if hollow else look.colour)  # fmt: skip
    if not hollow:
        runs = 100 * np.array([score for seeds in row.runs.values() for score in seeds])
        axes.plot(np.full(len(runs), x + 0.18), runs, ".", color=look.colour, markersize=3, alpha=0.8)


FIGURE = Figure(
    name="task_scores",
    caption=(
        "Test score of every model on every task, at the largest training size: mean with its 95 % interval over "
        "replicates, seeds and examples, and each run as a small point. Hollow: random weights of the same shape, "
        "fine-tuned alike. Lines: the best baseline without a network, and the majority class, whose F1 is 0."
    ),
    needs=(SignificanceResult, TaskScores),
    plot=plot,
    order=20,
)
