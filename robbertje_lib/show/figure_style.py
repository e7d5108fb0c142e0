"""One look for every figure, what several are made of, and the one way to save them.

Colours are those of Okabe and Ito, which most colour-blind readers tell apart; every model keeps its own in all
figures, and markers and line styles carry the same distinction in print without colour.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from html import escape
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from robbertje_lib.corpus.arms import get_arm
from robbertje_lib.experiment import paths
from robbertje_lib.experiment.artefacts import atomic_path
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.provenance import commit, git_state
from robbertje_lib.experiment.run import Run

if TYPE_CHECKING:
    import IPython
    import matplotlib

# Strings, as nothing is imported before something is drawn.
Image: TypeAlias = "IPython.display.Image"
Picture: TypeAlias = "matplotlib.figure.Figure"
Axes: TypeAlias = "matplotlib.axes.Axes"
Artist: TypeAlias = "matplotlib.artist.Artist"

PALETTE = {
    "teacher": "#222222",
    "non_shuffled": "#0072B2",
    "shuffled": "#E69F00",
    "merged": "#009E73",
    "bort": "#CC79A7",
}
OTHERS = ("#56B4E9", "#D55E00", "#8C6D31", "#7A7A7A")
# Dark enough for white text, but the last.
VERDICT_COLOURS = {"supported": "#0072B2", "contradicted": "#B94700", "undecided": "#6A6A6A", "not_tested": "#D5D5D5"}
VARIANTS = (("o", "-"), ("s", "--"), ("D", ":"), ("^", "-."))  # marker and line of a model and its variants
GREY = "#6A6A6A"
STYLE = paths.DATA / "figure_style.mplstyle"
WIDTH = 7.2  # inches: a page's text width
SHOWN_WIDTH = 860  # pixels, in a notebook


@dataclass(frozen=True)
class Look:
    """How one model is drawn everywhere."""

    colour: str
    marker: str
    line: str
    label: str


def label(name: str) -> str:
    """A model's name as the paper writes it."""
    return name.replace("non_shuffled", "non-shuffled").replace("_", " ")


def looks(models: Iterable[str]) -> dict[str, Look]:
    """A look per model: known names have fixed colours, `merged_same_lines` is a variant of `merged`."""
    by_name: dict[str, Look] = {}
    variants: dict[str, int] = {}
    others = iter(OTHERS * 9)
    for name in models:
        # The longest match: `non_shuffled` ends in `shuffled`, but does not start with it.
        base = max((known for known in PALETTE if name == known or name.startswith(known + "_")), key=len, default=name)
        marker, line = VARIANTS[variants.get(base, 0) % len(VARIANTS)]
        variants[base] = variants.get(base, 0) + 1
        by_name[name] = Look(PALETTE.get(base) or next(others), marker, line, label(name))
    return by_name


def styled() -> AbstractContextManager[None]:
    """Within it everything is drawn in `STYLE`."""
    import matplotlib  # not above: `make plan` lists the figures, and should not wait for it

    return matplotlib.rc_context(fname=STYLE)


def new_figure(width: float = WIDTH, height: float = 3.0) -> Picture:
    """An empty figure of this size in inches; drawn without pyplot, which would keep every figure in memory."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def grid(count: int, columns: int, height: float, **shared: Any) -> tuple[Picture, list[Axes]]:
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
    fig: Picture,
    panels: Sequence[Axes],
    used: int,
    styles: Mapping[str, Look],
    lines: bool = False,
    extra: Sequence[Artist] = (),
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


def line_entry(label: str, colour: str, **look: Any) -> Artist:
    """An entry of a legend. look: as matplotlib's `Line2D` takes it."""
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour, label=label, **look)


def plain_log_ticks(axis: Any, low: float, high: float) -> None:
    """1, 2 and 5 of each power of ten between `low` and `high`, in plain digits."""
    from matplotlib.ticker import FixedLocator, NullFormatter, ScalarFormatter

    marks = [m * 10**e for e in range(-1, 7) for m in (1, 2, 5)]
    axis.set_major_locator(FixedLocator([m for m in marks if low <= m <= high]))
    axis.set_major_formatter(ScalarFormatter())
    axis.set_minor_formatter(NullFormatter())


def score_label(metric: str) -> str:
    """A metric as a reader knows it."""
    return "F1" if metric == "f1" else metric


@dataclass(frozen=True)
class SavedFigure:
    """A figure on disk; a notebook cell that ends in one shows it."""

    name: str
    caption: str
    svg: Path
    png: Path

    def _repr_html_(self) -> str:
        picture = base64.b64encode(self.png.read_bytes()).decode()
        return (
            f'<img alt="{escape(self.caption, quote=True)}" style="max-width:100%;width:{SHOWN_WIDTH}px" '
            f'src="data:image/png;base64,{picture}">'
        )

    def __repr__(self) -> str:
        return f"{self.svg.parent.name}/{self.svg.name}: {self.caption}"


@cache
def _commit() -> str:
    # Asked once: all figures of a process belong to the code it started with.
    return commit(git_state())


def stamp(run: Run, code: str | None = None) -> str:
    """What every figure says of its origin: profile, budget, kind of text, run and commit (`+`: with changes).

    And for arms that merge lines with which probability, so that the figures of a sweep can be told apart.
    code: the commit to name, if not that of this process.
    """
    corpus = run.profile.corpus
    merging = ", ".join(name for name in corpus.arms if get_arm(name).merges)
    merged = f" · {merging} p = {corpus.merge_probability:g}" if merging else ""
    return f"{run.profile.stamp}{merged} · run {run.paths.run_name} · {code or _commit()}"


def save_figure(fig: Picture, run: Run, name: str, caption: str) -> SavedFigure:
    """Write `figures/<run>/<name>.svg` and `.png`, stamped in the picture and in the metadata.

    caption: one or two sentences that stand in for the picture, kept as its description and used as alt text.
    Equal results give equal bytes. Raises `UserError` for a name that is no plain file name.
    """
    if not name.replace("_", "").isalnum():
        raise UserError(f"figure name '{name}': use letters, digits and underscores only")
    told = {"Title": name, "Description": caption, "Source": stamp(run)}
    metadata = {"svg": {**told, "Creator": "robbertje_lib", "Date": None}, "png": {**told, "Software": "robbertje_lib"}}
    files = {kind: run.paths.figures / f"{name}.{kind}" for kind in metadata}
    for kind, path in files.items():
        with atomic_path(path) as temporary:
            _write(fig, told["Source"], temporary, format=kind, metadata=metadata[kind])
    return SavedFigure(name, caption, files["svg"], files["png"])


def inline(fig: Picture, run: Run, caption: str) -> Image:
    """The same picture for a notebook, with the caption as alt text; nothing is saved.

    Its stamp names no run: another one may take the notebook over.
    """
    from IPython.display import Image

    png = BytesIO()
    _write(fig, run.profile.origin, png, format="png")
    return Image(png.getvalue(), width=SHOWN_WIDTH, alt=caption)


def _write(fig: Picture, source: str, file: Path | BytesIO, **kind: Any) -> None:
    with styled():
        if not any(text.get_gid() == "stamp" for text in fig.texts):
            fig.text(0.0, -0.01, source, gid="stamp", fontsize=6, color=GREY, va="top")
        fig.savefig(file, dpi=180, bbox_inches="tight", pad_inches=0.08, **kind)
