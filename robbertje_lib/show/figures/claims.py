"""What became of every claim: a row a claim, a column a setting, and the verdict of the paper's own table."""

from textwrap import fill

from robbertje_lib.experiment.results.claims import ONE_RUN, ClaimsResult
from robbertje_lib.show.figure_style import VERDICT_COLOURS, Axes, Picture, new_figure
from robbertje_lib.show.figures import Figure, Results

ON_PAPER = "the paper's own table"


def plot(results: Results) -> Picture:
    result = results[ClaimsResult]
    claims = {row.id: row for row in result.claims}
    settings = list(dict.fromkeys(row.setting for row in result.claims))
    fig = new_figure(height=0.8 + 0.4 * len(claims))
    axes = fig.subplots()
    places = {name: place for place, name in enumerate(claims)}
    for row in result.claims:
        why = ONE_RUN if row.reason.startswith(ONE_RUN) else "no difference of interest" if row.bounded else ""
        undecided = f"\n({why})" if row.verdict == "undecided" and why else ""
        _cell(axes, settings.index(row.setting), places[row.id], row.verdict, undecided)
    for name, row in claims.items():
        if row.published_verdict:
            _cell(axes, len(settings), places[name], row.published_verdict)
    axes.axvline(len(settings) - 0.5, color="#222222", linewidth=0.8)
    axes.set_yticks(range(len(claims)), [fill(row.claim, 46) for row in claims.values()], fontsize=7)
    titles = [
        *(setting.replace("_", " ").replace(", ", ",\n") for setting in settings),
        ON_PAPER.replace(" own", "\nown"),
    ]
    axes.set_xticks(range(len(titles)), titles, fontsize=7)
    axes.set(xlim=(-0.5, len(titles) - 0.5), ylim=(len(claims) - 0.5, -0.5), title=f"this run: {result.kind}")
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return fig


def _cell(axes: Axes, x: int, y: int, verdict: str, more: str = "") -> None:
    axes.barh(y, 0.94, 0.84, left=x - 0.47, color=VERDICT_COLOURS[verdict])
    colour = "#222222" if verdict == "not_tested" else "white"
    axes.text(x, y, verdict.replace("_", " ") + more, ha="center", va="center", fontsize=6, color=colour)


FIGURE = Figure(
    name="claims",
    caption=(
        "Every claim of the paper with the verdict of this run in each setting that has students of its own to "
        "compare, and, where it can be tested, of the paper's own table."
    ),
    needs=(ClaimsResult,),
    plot=plot,
    order=120,
)
