"""How well every model does every task: small multiples, one a task."""

import numpy as np

from robbertje_lib.conclusions.published import TITLES
from robbertje_lib.experiment.results.finetuning import TaskScores
from robbertje_lib.experiment.results.significance import SignificanceResult
from robbertje_lib.show.figure_style import GREY, Picture, grid, legend, line_entry, looks, score_label
from robbertje_lib.show.figures import Figure, Results


def plot(results: Results) -> Picture:
    from matplotlib.ticker import MaxNLocator

    scores = {(row.task, row.model): row for row in results[SignificanceResult].scores}
    majority = {task: result.majority_baseline for task, result in results.each(TaskScores).items()}
    models = list(dict.fromkeys(model for _, model in scores))
    styles = looks(models)
    fig, panels = grid(len(majority), columns=3, height=2.0)
    for axes, task in zip(panels, majority, strict=False):
        for x, model in enumerate(models):
            look, row = styles[model], scores[task, model]
            axes.plot([x, x], [100 * bound for bound in row.interval], color=look.colour, linewidth=2)
            axes.plot(x, 100 * row.score, look.marker, color=look.colour, zorder=3)
            axes.plot(np.full(len(row.seeds), x + 0.22), 100 * np.array(row.seeds), ".", color=look.colour,
                      markersize=3, alpha=0.8)  # fmt: skip
        axes.axhline(100 * majority[task], color=GREY, linestyle="--", linewidth=1)
        axes.set(title=f"{TITLES.get(task, task)} (n = {row.n:,})", ylabel=f"{score_label(row.metric)}, %")
        axes.set(xticks=[], xlim=(-0.6, len(models) - 0.2))
        axes.yaxis.set_major_locator(MaxNLocator(5))
    legend(fig, panels, len(majority), styles, extra=[line_entry("majority class", GREY, linestyle="--", linewidth=1)])
    return fig


FIGURE = Figure(
    name="task_scores",
    caption=(
        "Test score of every model on every task: mean over seeds with its 95 % interval over seeds and "
        "examples, and each seed as a small point. The dashed line is the majority class."
    ),
    needs=(SignificanceResult, TaskScores),
    plot=plot,
    order=20,
)
