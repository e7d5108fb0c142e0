"""How often each significance test rejects, and each interval holds the truth, where the truth is known."""

from typing import Any

from robbertje_lib.experiment.results.significance import SignificanceResult
from robbertje_lib.show.figure_style import GREY, Axes, Picture, grid
from robbertje_lib.show.figures import Figure, Results

Rows = Any  # a table of rates: pandas is imported when something is drawn
KEPT = (0.03, 0.06)  # a rate in between counts as the nominal level
HELD = (0.93, 0.97)  # and in between as 95 %
MARKERS = "osD^v"


def plot(results: Results) -> Picture:
    import pandas as pd

    study = results[SignificanceResult].calibration
    rates, margin = pd.DataFrame(study.rates), f"{100 * study.settings['margin']:g}"
    fig, panels = grid(9, columns=3, height=2.3)
    columns = {
        "replicates": ("scores", "distillations", "true difference, points"),
        "alike": (f"likeness within {margin} points", "distillations", "points inside the margin"),
        "speeds": ("speeds", "training runs", "true difference, %"),
    }
    for place, (data, (title, unit, difference)) in enumerate(columns.items()):
        _levels(panels[place], rates, data)
        panels[place].set(title=f"{'abc'[place]}  {title}", xlabel=f"{unit} of each student")
        _powers(panels[place + 3], rates, data)
        panels[place + 3].set(title=f"{'def'[place]}  {title}", xlabel=difference)
    for axes, data, letter in zip(panels[6:], ("accuracy", "entity F1"), "gh", strict=False):
        for number, (test, rows) in enumerate(rates[rates["data"] == data].groupby("test", sort=False)):
            _series(axes, 100 * rows["difference"] + 0.1 * number, rows, number, test)
        axes.set(title=f"{letter}  given weights: {data}", xlabel="true difference, points")
    for axes in panels[:8]:
        axes.axhline(study.alpha, color=GREY, linestyle=":", linewidth=1.2)
    for axes in panels[3:8]:
        axes.set(ylim=(-0.02, 1.25), yticks=[0, 0.25, 0.5, 0.75, 1])  # room for the legend
        axes.legend(loc="upper left", fontsize=6.5, borderaxespad=0.1)
    for axes, label in zip(panels[::3], ("type-I error", "share found", "share found"), strict=True):
        axes.set_ylabel(label)
    _coverages(panels[8], pd.DataFrame(study.coverage))
    return fig


def _series(axes: Axes, x: Any, rows: Rows, number: int, label: str, value: str = "rejected") -> None:
    """One line with its intervals: a test or method that is not offered dashed and hollow."""
    import seaborn as sns

    colour, offered = sns.color_palette("colorblind")[number], rows["offered"].iloc[0]
    axes.plot(x, rows[value], "-" if offered else "--", marker=MARKERS[number], color=colour, label=label,
              linewidth=1.1, markersize=4, markerfacecolor=colour if offered else "white")  # fmt: skip
    axes.vlines(x, *zip(*rows["interval"], strict=True), color=colour, linewidth=0.8)


def _levels(axes: Axes, rates: Rows, data: str) -> None:
    """Type-I error by replicates and ratio of spreads; at 1 the shortcut that takes something else for replicates."""
    null = rates[(rates["difference"] == 0) & rates["replicates"].notna()]
    drawn = null[null["data"].isin({data, "one distillation"} if data == "replicates" else {data})]
    numbers = sorted(int(number) for number in drawn["replicates"].unique())
    for number, (ratio, rows) in enumerate(drawn.groupby("spread_ratio")):
        for _, own in rows.groupby("offered"):
            x = [numbers.index(count) + 0.15 * (number - 1) for count in own["replicates"]]
            _series(axes, x, own, number, f"ratio {ratio:g}" if own["offered"].iloc[0] else "_")
    if data == "replicates":
        given = null[null["data"] == "replicates against given weights"]
        _series(axes, [numbers.index(count) + 0.3 for count in given["replicates"]], given, 3, "1, to given weights")
    axes.axhspan(*KEPT, color="#E3E3E3", zorder=0)
    axes.set(yscale="log", ylim=(0.01, 1), xlim=(-0.5, len(numbers) - 0.5))
    axes.set_xticks(range(len(numbers)), map(str, numbers))
    axes.set_yticks([0.01, 0.03, 0.06, 0.1, 0.3, 1], ["0.01", "0.03", "0.06", "0.1", "0.3", "1"])
    axes.minorticks_off()
    axes.legend(loc="upper right", fontsize=6.5, borderaxespad=0.1)


def _powers(axes: Axes, rates: Rows, data: str) -> None:
    """Power by difference and replicates, at equal spreads; of scores also with two fine-tuning seeds each."""
    drawn = rates[rates["data"].str.startswith(data) & (rates["spread_ratio"] == 1) & rates["offered"]]
    drawn = drawn.groupby(["data", "replicates"], sort=False).filter(lambda rows: len(rows) > 1)
    for number, ((kind, count), rows) in enumerate(drawn.groupby(["data", "replicates"], sort=False)):
        label = f"{count:g} each" if kind == data else f"{count:g}, two seeds"
        _series(axes, 100 * rows["difference"] + 0.1 * number, rows, number, label)


def _coverages(axes: Axes, coverage: Rows) -> None:
    for number, (method, rows) in enumerate(coverage.groupby("method", sort=False)):
        _series(axes, range(len(rows)), rows, number, method, "covered")
    told = [f"{row.clusters}\n{row.correlation:g}" for row in rows.itertuples()]
    axes.axhspan(*HELD, color="#E3E3E3", zorder=0)
    axes.axhline(0.95, color=GREY, linestyle=":", linewidth=1.2)
    axes.set(title="i  coverage under clustering", ylabel="truth held", xlabel="clusters of 10; correlation")
    axes.set_xticks(range(len(told)), told)
    axes.set_ylim(0.5, 1.02)
    axes.legend(loc="lower right", fontsize=6.5, borderaxespad=0.1)


FIGURE = Figure(
    name="calibration",
    caption=(
        "The tests where the truth is known. a-c: type-I error by replicates and by how much they spread (ratio: "
        "replicates to fine-tuning seeds, or runs to stretches of a run), 0.05 dotted, 0.03 to 0.06 grey; at 1 on the "
        "axis (one distillation) the shortcut that takes five seeds of it, or stretches of one run, for replicates; "
        "'1, to given weights': replicates at ratio 1 against a model that is there once. d-f: power at ratio 1 by "
        "replicates. g, h: tests of given weights. i: how often a 95 % interval holds the truth where "
        "examples come in clusters, by what is redrawn. Bars: 95 % intervals; dashed, hollow: shortcuts not used here."
    ),
    needs=(SignificanceResult,),
    plot=plot,
    order=110,
)
