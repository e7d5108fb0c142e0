"""What several figures are made of: panels, one legend for all of them, ticks, names of tasks."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from robbertje_lib.conclusions import published
from robbertje_lib.show.figure_style import Look, new_figure

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure


def grid(count: int, columns: int, height: float, **shared: Any) -> "tuple[Figure, list[Axes]]":
    """A figure of panels, `columns` wide, with room for a legend in a last free panel or above."""
    columns = 2 if count == 4 else min(columns, count)
    rows = -(-count // columns)
    fig = new_figure(height=height * rows)
    panels = list(np.atleast_1d(fig.subplots(rows, columns, **shared)).ravel())
    for place, axes in enumerate(panels):
        if place >= count:
            axes.set_axis_off()
        elif place + columns >= count:
            axes.tick_params(labelbottom=True)  # the lowest of its column, which sharing would leave bare
    return fig, panels


def legend(
    fig: "Figure",
    panels: "Sequence[Axes]",
    used: int,
    styles: Mapping[str, Look],
    lines: bool = False,
    extra: "Sequence[Artist]" = (),
) -> None:
    """One legend for all panels: in a free panel where there is one, else above them."""
    handles = [
        line_entry(s.label, s.colour, marker="" if lines else s.marker, linestyle=s.line if lines else "")
        for s in styles.values()
    ]
    handles += extra
    if used < len(panels):
        panels[used].legend(handles=handles, loc="center left")
    else:
        fig.legend(handles=handles, loc="outside upper left", ncols=5 if len(handles) != 6 else 3)


def line_entry(label: str, colour: str, **look: Any) -> "Artist":
    """An entry of a legend. look: as matplotlib's `Line2D` takes it."""
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour, label=label, **look)


def plain_log_ticks(axis: "Axis", low: float, high: float) -> None:
    """1, 2 and 5 of each power of ten between `low` and `high`, in plain digits."""
    from matplotlib.ticker import FixedLocator, NullFormatter, ScalarFormatter

    marks = [m * 10**e for e in range(-1, 7) for m in (1, 2, 5)]
    axis.set_major_locator(FixedLocator([m for m in marks if low <= m <= high]))
    axis.set_major_formatter(ScalarFormatter())
    axis.set_minor_formatter(NullFormatter())


def score_label(metric: str) -> str:
    """A metric as a reader knows it."""
    return "F1" if metric == "f1" else metric


def task_title(task: str) -> str:
    """A task as the paper writes it."""
    return published.TITLES.get(task, task)
