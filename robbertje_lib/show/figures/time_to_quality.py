"""How soon one recipe reaches what the published one ends with: a panel a pair of students."""

from robbertje_lib.conclusions.time_to_quality import RecipeComparison, compare_students, recipe_pairs
from robbertje_lib.experiment.results.training import DistillationResult
from robbertje_lib.show.figure_style import GREY, Picture, grid, label, looks, plain_log_ticks
from robbertje_lib.show.figures import Figure, Results


def plot(results: Results) -> Picture:
    rows = compare_students(results.profile, results.each(DistillationResult))
    fig, panels = grid(len(rows), columns=2, height=3.0)
    for axes, row in zip(panels, rows, strict=False):
        styles = looks(row.curves)
        for name, replicates in row.curves.items():
            look = styles[name]
            for number, curve in enumerate(replicates):
                axes.plot([p.training_seconds for p in curve], [p.pseudo_perplexity for p in curve], look.line,
                          marker=look.marker, markersize=3, linewidth=1, color=look.colour,
                          label=None if number else look.label)  # fmt: skip
        axes.axhline(row.target, color=GREY, linestyle=":", linewidth=1)
        axes.annotate(_told(row), (1, row.target), (0, -8), xycoords=("axes fraction", "data"),
                      textcoords="offset points", ha="right", va="top", fontsize=7, color=GREY)  # fmt: skip
        axes.set_yscale("log")
        axes.margins(y=0.15)  # room for the text below the line
        plain_log_ticks(axes.yaxis, *axes.get_ylim())
        axes.set_xlabel("seconds of training")
        axes.legend()
    for axes in panels[: len(rows) : 2]:
        axes.set_ylabel("held-out pseudo-perplexity")
    return fig


def _told(row: RecipeComparison) -> str:
    if row.seconds is not None:
        when = f"is there after {row.seconds:.0f} s" if row.seconds else "starts below it"
        return f"{label(row.other)} {when},\n{label(row.published)} after {row.published_seconds:.0f} s"
    if there := sum(point is not None for point in row.reached):
        return f"{label(row.other)}: {there} of {len(row.reached)} replicates get there"
    return f"{label(row.other)} does not get there"


FIGURE = Figure(
    name="time_to_quality",
    caption=(
        "Held-out pseudo-perplexity against seconds of training (evaluation not counted) for two recipes on the "
        "same arm and shape, a line a replicate. The dotted line is what the published recipe ends with, in the mean."
    ),
    needs=(DistillationResult,),
    plot=plot,
    applies=lambda profile: bool(recipe_pairs(profile)),
    lacking="two students that differ in their recipe alone",
    order=40,
)
