"""What training examples buy: score against their number, for models, random weights and the best baseline."""

import numpy as np

from robbertje_lib.conclusions.published import TITLES
from robbertje_lib.experiment.profile import Profile
from robbertje_lib.experiment.results.finetuning import TEST, TaskScores
from robbertje_lib.experiment.results.significance import Score, SignificanceResult
from robbertje_lib.show.figure_style import GREY, VARIANTS, Look, Picture, grid, legend, line_entry, looks, score_label
from robbertje_lib.show.figures import Figure, Results

BASELINE = "best baseline"


def has_sizes(profile: Profile) -> bool:
    """Whether a task is trained on more than one size."""
    return any(len(settings.train) > 1 for settings in profile.finetuning.tasks.values())


def plot(results: Results) -> Picture:
    from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

    told = {task: own for task, own in results.each(TaskScores).items() if len(own.sizes) > 1}
    profile = results.profile
    scores = {(r.task, r.train, r.group): r for r in results[SignificanceResult].scores if r.test_set == TEST}
    models = looks(profile.groups)
    controls = {name: Look(GREY, VARIANTS[i % 4][0], ":", name) for i, name in enumerate(profile.controls)}
    styles = {**models, **controls, BASELINE: Look("#A34700", "x", "--", BASELINE)}
    fig, panels = grid(len(told), columns=3, height=2.4)
    for axes, (task, own) in zip(panels, told.items(), strict=False):
        best = [own.best_baseline(train) for train in own.sizes]
        curves: dict[str, list[Score]] = {g: [scores[task, n, g] for n in own.sizes] for g in styles if g != BASELINE}
        curves[BASELINE] = [scores[task, n, name] for n, name in zip(own.sizes, best, strict=True)]
        for number, (group, rows) in enumerate(curves.items()):
            look = styles[group]
            x = np.array(own.sizes) * 1.03 ** (number - len(curves) / 2)  # side by side, so that intervals show
            filled = look.colour if group in models else "white"
            axes.plot(x, [100 * row.score for row in rows], look.line, marker=look.marker, color=look.colour,
                      markersize=3.5, markerfacecolor=filled, linewidth=1)  # fmt: skip
            axes.vlines(x, *(100 * np.array([row.interval for row in rows]).T), color=look.colour, linewidth=0.8)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(own.sizes))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set(title=TITLES.get(task, task), ylabel=f"{score_label(own.metric)}, %")
    fig.supxlabel("training examples", fontsize=9)
    extra = [
        line_entry("random weights, by shape", GREY, marker="o", markerfacecolor="white", linestyle=":"),
        line_entry(BASELINE, styles[BASELINE].colour, marker="x", linestyle="--"),
    ]
    legend(fig, panels, len(told), models, extra=extra)
    return fig


FIGURE = Figure(
    name="learning_curve",
    caption=(
        "Test score against the number of training examples, with 95 % intervals over replicates, seeds and examples. "
        "Hollow and dotted: random weights in the shape of each model; crosses: the best baseline without a network."
    ),
    needs=(SignificanceResult, TaskScores),
    plot=plot,
    applies=has_sizes,
    lacking="task that is trained on more than one size",
    order=25,
)
