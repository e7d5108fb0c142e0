"""Whether a model does better on long inputs: score by length bin, a panel a task."""

import numpy as np

from robbertje_lib.conclusions.published import TITLES
from robbertje_lib.experiment.results.significance import SignificanceResult
from robbertje_lib.show.figure_style import Picture, grid, legend, looks, score_label
from robbertje_lib.show.figures import Figure, Results


def plot(results: Results) -> Picture:
    scores = results[SignificanceResult].by_length
    styles = looks(results.profile.groups)
    fig, panels = grid(len(scores), columns=3, height=2.0)
    for axes, (task, result) in zip(panels, scores.items(), strict=False):
        for number, (group, values) in enumerate(result.groups.items()):
            look = styles[group]
            x = np.arange(len(values)) + (number - (len(styles) - 1) / 2) * 0.7 / len(styles)
            axes.vlines(x, *(100 * np.array([v.interval for v in values]).T), color=look.colour, linewidth=1.3)
            axes.plot(x, [100 * v.score for v in values], look.marker, color=look.colour, markersize=3.5)
        edges = [f"{b.low}–{b.high}" if b.low < b.high else str(b.low) for b in result.bins]
        axes.set_xticks(range(len(edges)), edges, fontsize=7)
        axes.set_title(f"{TITLES.get(task, task)} ({score_label(result.metric)})")
        axes.grid(axis="x", visible=False)
    fig.supxlabel("tokens of the input, special tokens included", fontsize=9)
    fig.supylabel("score, %", fontsize=9)
    legend(fig, panels, len(scores), styles)
    return fig


FIGURE = Figure(
    name="scores_by_length",
    caption=(
        "Test score by length of the input, in bins of about equally many test examples: mean over "
        "replicates and seeds with its 95 % interval over examples."
    ),
    needs=(SignificanceResult,),
    plot=plot,
    order=80,
)
