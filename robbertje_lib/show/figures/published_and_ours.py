"""Whether this run and the paper agree: every student minus its teacher, published and ours, a panel a task."""

from robbertje_lib.conclusions import published
from robbertje_lib.conclusions.published import agreement
from robbertje_lib.experiment.results.significance import SignificanceResult
from robbertje_lib.show.figure_style import GREY, VERDICT_COLOURS, Picture, grid, label, legend, line_entry
from robbertje_lib.show.figures import Figure, Results

COLOURS = {
    "same direction": VERDICT_COLOURS["supported"],
    "opposite direction": VERDICT_COLOURS["contradicted"],
    "undecided": VERDICT_COLOURS["undecided"],
}


def plot(results: Results) -> Picture:
    from matplotlib.ticker import MaxNLocator

    cells = {}
    for row in results[SignificanceResult].comparisons:
        paper = published.published_difference(row.a, row.b, row.task)
        if row.family == "students_vs_teacher" and row.task in published.TASKS and paper:
            cells[row.task, row.a] = row, paper
    tasks = list(dict.fromkeys(task for task, _ in cells))
    students = list(dict.fromkeys(student for _, student in cells))
    fig, panels = grid(len(tasks), columns=3, height=1.9, sharey=True)
    for axes, task in zip(panels, tasks, strict=False):
        axes.axvline(0, color=GREY, linewidth=0.8)
        for y, name in enumerate(students):
            ours, theirs = cells[task, name]
            colour = COLOURS[agreement(ours.interval, theirs.interval)]
            if theirs.interval:
                axes.plot([100 * v for v in theirs.interval], [y - 0.15] * 2, color=colour, linewidth=1)
            axes.plot(100 * theirs.value, y - 0.15, "o", color=colour, markerfacecolor="white", markersize=4.5)
            axes.plot([100 * v for v in ours.interval], [y + 0.15] * 2, color=colour, linewidth=2)
            axes.plot(100 * ours.difference, y + 0.15, "o", color=colour, markersize=4.5)
        axes.set(title=published.TITLES.get(task, task), ylim=(len(students) - 0.5, -0.5))
        axes.set_yticks(range(len(students)), [label(name) for name in students])
        axes.grid(axis="y", visible=False)
        axes.xaxis.set_major_locator(MaxNLocator(5))
    fig.supxlabel("student − teacher, points", fontsize=9)
    entries = [
        line_entry("published", "#444444", marker="o", markerfacecolor="white", linewidth=1),
        line_entry("this run", "#444444", marker="o", linewidth=2),
        *(line_entry(name, colour, marker="s", linestyle="") for name, colour in COLOURS.items()),
    ]
    legend(fig, panels, len(tasks), {}, extra=entries)
    return fig


FIGURE = Figure(
    name="published_and_ours",
    caption=(
        "Distance of every student to its teacher in each cell of the paper's table, published "
        "(hollow) and ours (filled), with 95 % intervals; the published ones take the scores as single runs."
    ),
    needs=(SignificanceResult,),
    plot=plot,
    applies=lambda profile: (
        profile.text == "real"
        and any(
            published.published_score(student, task)
            for student in profile.students
            for task in profile.finetuning.tasks
        )
    ),
    lacking="real text, or student and task of the paper's table",
    order=100,
)
