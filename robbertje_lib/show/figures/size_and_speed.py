"""What a better score costs: mean score against parameters and against latency."""

import numpy as np

from robbertje_lib.experiment.results.efficiency import EfficiencyResult
from robbertje_lib.experiment.results.finetuning import TEST
from robbertje_lib.experiment.results.significance import SignificanceResult
from robbertje_lib.show.figure_style import Picture, grid, legend, looks
from robbertje_lib.show.figures import Figure, Results


def plot(results: Results) -> Picture:
    groups = results.profile.groups
    models = {name: costs for name, costs in results[EfficiencyResult].models.items() if name in groups}
    result = results[SignificanceResult]
    rows = [row for row in result.scores if row.test_set == TEST and row.train == result.largest[row.task]]
    styles = looks(models)
    fig, panels = grid(2, columns=2, height=2.6, sharey=True)
    for name, costs in models.items():
        look, mean = styles[name], 100 * np.mean([row.score for row in rows if row.group == name])
        panels[0].plot(costs.parameters / 1e6, mean, look.marker, color=look.colour, markersize=7)
        spread = costs.timing.latency_ms
        panels[1].plot([spread.low, spread.high], [mean, mean], color=look.colour, linewidth=2)
        panels[1].plot(spread.median, mean, look.marker, color=look.colour, markersize=7)
    panels[0].set(xlabel="parameters, million", ylabel="mean score over tasks, %")
    panels[1].set(xlabel="latency of one sentence, ms")
    for axes in panels:
        axes.margins(0.1, 0.15)
        axes.set_xlim(left=0)
    legend(fig, panels, 2, styles)
    return fig


FIGURE = Figure(
    name="size_and_speed",
    caption=(
        "Mean test score over the tasks, at the largest training size, against the number of parameters and the "
        "latency of one sentence (median, with its spread over repetitions): a point for the teacher and each student, "
        "whose replicates share it."
    ),
    needs=(EfficiencyResult, SignificanceResult),
    plot=plot,
    order=70,
)
