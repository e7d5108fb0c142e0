"""How often each significance test rejects where the truth is known: by true difference, a panel a kind of data."""

from robbertje_lib.experiment.results.significance import SignificanceResult
from robbertje_lib.show.figure_style import GREY, Picture, grid
from robbertje_lib.show.figures import Figure, Results


def plot(results: Results) -> Picture:
    import pandas as pd
    import seaborn as sns

    study = results[SignificanceResult].calibration
    frame = pd.DataFrame(study.rates)
    kinds = list(frame["data"].unique())
    titles = {"alike": f"equivalence within {100 * study.margin:g} points"}
    fig, panels = grid(len(kinds), columns=2, height=2.4, sharey=True)
    colours = sns.color_palette("colorblind")
    for axes, kind in zip(panels, kinds, strict=False):
        rows = frame[frame["data"] == kind]
        for number, (name, own) in enumerate(rows.groupby("test", sort=False)):
            marker, line = ("o", "-") if own["offered"].iloc[0] else ("x", "--")
            x = 100 * own["difference"] + 0.08 * number
            axes.plot(x, own["rejected"], line, marker=marker, color=colours[number], label=name, linewidth=1.2,
                      markersize=4)  # fmt: skip
            axes.vlines(x, *zip(*own["interval"], strict=True), color=colours[number], linewidth=0.8)
        axes.axhline(study.alpha, color=GREY, linestyle=":", linewidth=1.2)
        xlabel = "points inside the margin" if kind == "alike" else "true difference, points"
        axes.set(title=titles.get(kind, kind), xlabel=xlabel, ylim=(-0.02, 1.02))
        axes.legend(loc="upper left", fontsize=7)
    for axes in panels[::2]:
        axes.set_ylabel("share rejected")
    return fig


FIGURE = Figure(
    name="calibration",
    caption=(
        "How often each significance test rejects, by true difference: at 0 its type-I error, which should "
        "stay at or below the dotted nominal level, beyond 0 its power. Dashed: shortcuts that we do not use."
    ),
    needs=(SignificanceResult,),
    plot=plot,
    order=110,
)
