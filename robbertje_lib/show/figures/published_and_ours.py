"""Whether this run and the paper agree: every student minus its teacher, published and ours, a panel a task."""

from robbertje_lib.conclusions import published
from robbertje_lib.conclusions.distances import Distance, distances_to_teacher
from robbertje_lib.experiment.results.pseudo_perplexity import PSEUDO_PERPLEXITY, PseudoPerplexityResult
from robbertje_lib.experiment.results.significance import SignificanceResult
from robbertje_lib.show.figure_style import GREY, VERDICT_COLOURS, Axes, Picture, grid, label, legend, line_entry
from robbertje_lib.show.figures import Figure, Results

COLOURS = {
    "same direction": VERDICT_COLOURS["supported"],
    "opposite direction": VERDICT_COLOURS["contradicted"],
    "undecided": VERDICT_COLOURS["undecided"],
}


def plot(results: Results) -> Picture:
    from matplotlib.ticker import MaxNLocator

    cells = list(distances_to_teacher(results.profile, results[SignificanceResult], results[PseudoPerplexityResult]))
    tasks, students = (list(dict.fromkeys(names)) for names in ([c.task for c in cells], [c.student for c in cells]))
    fig, panels = grid(len(tasks), columns=3, height=1.9, sharey=True)
    for axes, task in zip(panels, tasks, strict=False):
        axes.axvline(0, color=GREY, linewidth=0.8)
        for cell in cells:
            if cell.task == task:
                _draw(axes, students.index(cell.student), cell)
        unit = "nats a token, as the paper counts" if task == PSEUDO_PERPLEXITY else "points"
        axes.set(title=published.TITLES[task], ylim=(len(students) - 0.5, -0.5))
        axes.set_xlabel(unit, fontsize=7)
        axes.set_yticks(range(len(students)), [label(name) for name in students])
        axes.grid(axis="y", visible=False)
        axes.xaxis.set_major_locator(MaxNLocator(5))
    fig.supxlabel("student − teacher", fontsize=9)
    entries = [
        line_entry("published", "#444444", marker="o", markerfacecolor="white", linewidth=1),
        line_entry("this run", "#444444", marker="o", linewidth=2),
        *(line_entry(name, colour, marker="s", linestyle="") for name, colour in COLOURS.items()),
    ]
    legend(fig, panels, len(tasks), {}, extra=entries)
    return fig


def _draw(axes: Axes, y: int, cell: Distance) -> None:
    """The paper's distance above, hollow, and ours below."""
    scale, colour = 1 if cell.task == PSEUDO_PERPLEXITY else 100, COLOURS[cell.agreement]
    for place, value, interval, width, face in (
        (y - 0.15, cell.paper.value, cell.paper.interval, 1, "white"),
        (y + 0.15, cell.value, cell.interval, 2, colour),
    ):
        if interval:
            axes.plot([scale * bound for bound in interval], [place] * 2, color=colour, linewidth=width)
        axes.plot(scale * value, place, "o", color=colour, markerfacecolor=face, markersize=4.5)


FIGURE = Figure(
    name="published_and_ours",
    caption=(
        "Distance of every student to its teacher in each cell of the paper's table, published "
        "(hollow) and ours (filled), with 95 % intervals; the published ones take the scores as single runs. "
        "Pseudo-perplexity is counted as the paper does, and has no interval."
    ),
    needs=(SignificanceResult, PseudoPerplexityResult),
    plot=plot,
    applies=lambda profile: (
        profile.text == "real"
        and any(published.published_score(student, PSEUDO_PERPLEXITY) for student in profile.students)
    ),
    lacking="real text, or student of the paper's table",
    order=100,
)
