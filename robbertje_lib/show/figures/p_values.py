"""Which differences between models are significant: pairs by tasks, in points, with the adjusted p."""

from robbertje_lib.conclusions.published import TITLES
from robbertje_lib.experiment.results.pseudo_perplexity import PSEUDO_PERPLEXITY
from robbertje_lib.experiment.results.significance import SignificanceResult
from robbertje_lib.show.figure_style import Picture, label, new_figure
from robbertje_lib.show.figures import Figure, Results


def plot(results: Results) -> Picture:
    import numpy as np
    import seaborn as sns

    significance = results[SignificanceResult]
    largest = {task: size for task, size in significance.largest.items() if task != PSEUDO_PERPLEXITY}
    rows = {(r.a, r.b, r.task): r for r in significance.comparisons if largest.get(r.task) == r.train}
    tasks = list(dict.fromkeys(task for *_, task in rows))
    families = {(r.a, r.b): r.family for r in rows.values()}  # of each pair
    cells = [[rows[(*pair, task)] for task in tasks] for pair in families]
    shown = [[np.sign(r.difference) * (r.adjusted_p <= significance.alpha) for r in line] for line in cells]
    told = [[f"{100 * r.difference:+.1f}\n{_p(r.adjusted_p)}" for r in line] for line in cells]
    fig = new_figure(height=0.9 + 0.36 * len(families))
    axes = fig.subplots()
    # Blue where the first model is better, vermilion where the second is, white where neither can be told.
    sns.heatmap(
        np.array(shown),
        annot=np.array(told),
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
    axes.set_xticklabels([TITLES.get(task, task) for task in tasks], rotation=0)
    axes.set_yticklabels([f"{label(a)} – {label(b)}" for a, b in families], rotation=0)
    axes.tick_params(length=0)
    axes.set_xlabel(
        f"blue: first better, orange: second better, white: undecided at {significance.alpha:g}", fontsize=8
    )
    order = list(families.values())
    for row in range(1, len(order)):
        if order[row] != order[row - 1]:
            axes.axhline(row, color="#333333", linewidth=1.2)
    return fig


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}" if value < 0.1 else f"p = {value:.2f}"


FIGURE = Figure(
    name="p_values",
    caption=(
        "Difference between two models on each task, in points, coloured by direction where it is significant "
        "after Holm's correction; the number below is the adjusted p. At the largest training size of each task."
    ),
    needs=(SignificanceResult,),
    plot=plot,
    order=90,
)
