"""What became of every claim: a row a claim and setting, the verdict of this run and of the paper's table."""

from textwrap import fill

from robbertje_lib.experiment.results.claims import ClaimsResult
from robbertje_lib.show.figure_style import VERDICT_COLOURS, Picture, new_figure
from robbertje_lib.show.figures import Figure, Results


def plot(results: Results) -> Picture:
    result = results[ClaimsResult]
    rows = result.claims
    ids = [row.id for row in rows]
    fig = new_figure(height=0.6 + 0.36 * len(rows))
    axes = fig.subplots()
    names = []
    for y, row in enumerate(rows):
        setting = f" [{row.setting.replace('_', ' ')}]" if ids.count(row.id) > 1 else ""
        names.append(fill(row.claim + setting, 52))
        for x, verdict in enumerate((row.verdict, row.published_verdict)):
            if verdict:
                axes.barh(y, 0.94, 0.8, left=x - 0.47, color=VERDICT_COLOURS[verdict])
                axes.text(x, y, verdict.replace("_", " "), ha="center", va="center", fontsize=7,
                          color="#222222" if verdict == "not_tested" else "white")  # fmt: skip
    axes.set_yticks(range(len(rows)), names, fontsize=7)
    axes.set(xlim=(-0.5, 1.5), ylim=(len(rows) - 0.5, -0.5))
    axes.set_xticks([0, 1], [f"this run ({result.kind})", "the paper's own table"])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return fig


FIGURE = Figure(
    name="claims",
    caption=(
        "Every claim of the paper with the verdict of this run and, where it can be tested, of the paper's own table."
    ),
    needs=(ClaimsResult,),
    plot=plot,
    order=120,
)
