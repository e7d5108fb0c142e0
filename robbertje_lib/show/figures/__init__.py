"""Every figure of the companion: one module each, with one object `FIGURE`; result files in, a picture out.

A figure of your own is one new file in this folder, here `parameters.py`; stage 90 draws it, the report shows it:

    from robbertje_lib.experiment.results.efficiency import EfficiencyResult
    from robbertje_lib.show.figure_style import Picture, new_figure
    from robbertje_lib.show.figures import Figure, Results

    def plot(results: Results) -> Picture:
        models = results[EfficiencyResult].models
        fig = new_figure()
        fig.subplots().barh(list(models), [model.parameters for model in models.values()])
        return fig

    FIGURE = Figure("parameters", "Parameters of every model.", (EfficiencyResult,), plot)

It may read the result files that it names, and no others. `make plan` reads this folder: import what takes long, such
as matplotlib, inside `plot`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, overload

import pyarrow as pa

from robbertje_lib.experiment.errors import UserError, did_you_mean
from robbertje_lib.experiment.members import members
from robbertje_lib.experiment.profile import Profile, TeacherTraining
from robbertje_lib.experiment.results.base import ResultFile, ResultTable
from robbertje_lib.experiment.results.training import TeacherResult
from robbertje_lib.experiment.run import Run
from robbertje_lib.show.figure_style import Image, Picture, SavedFigure, inline, save_figure, styled

Need = type[ResultFile] | type[ResultTable]
LAST = 1000
R = TypeVar("R", bound=ResultFile)


class Results:
    """The result files that a figure needs. Raises `ValueError` for any other, `UserError` for a damaged one."""

    def __init__(self, run: Run, needs: tuple[Need, ...]) -> None:
        self._run, self._needs, self.profile = run, needs, run.profile

    @overload
    def __getitem__(self, need: type[R]) -> R: ...
    @overload
    def __getitem__(self, need: type[ResultTable]) -> pa.Table: ...
    def __getitem__(self, need: Need) -> ResultFile | pa.Table:
        return next(iter(self._read(need).values()))

    def each(self, need: type[R]) -> dict[str, R]:
        """Those of every task or student, by its name."""
        return self._read(need)

    def get(self, need: type[R]) -> R | None:
        """None where the profile leads to no such file."""
        return next(iter(self._read(need).values()), None)

    def _read(self, need: Need) -> dict[str, Any]:
        if need not in self._needs:
            raise ValueError(f"{need.__name__}: read by a figure that does not name it in its `needs`")
        return {"".join(names.values()): need.read(self._run, **names) for names in _files(need, self.profile)}


def _files(need: Need, profile: Profile) -> list[dict[str, str]]:
    """What stands in the braces of `need.where`, for each such file that a run of the profile writes."""
    if need is TeacherResult and not isinstance(profile.teacher, TeacherTraining):
        return []
    named = {"task": profile.finetuning.tasks, "student": profile.trained, "arm": profile.corpus.arms}
    brace = re.search(r"{(\w+)}", need.where)
    return [{brace[1]: name} for name in named[brace[1]]] if brace else [{}]


@dataclass(frozen=True)
class Figure:
    """One figure.

    `caption`: one or two sentences that stand in for the picture. `needs`: the result files that `plot` reads; where
    there is one a task, student or arm, all of them. `applies`: whether a run of this profile has the figure at all;
    `lacking` says what such a run lacks otherwise. `order`: the place in the report; figures of your own need
    none, come last, and are shown by the last cells of notebook 90.
    """

    name: str
    caption: str
    needs: tuple[Need, ...]
    plot: Callable[[Results], Picture]
    applies: Callable[[Profile], bool] = lambda profile: True
    lacking: str = ""
    order: int = LAST

    def files(self, run: Run) -> list[Path]:
        """The result files that it shows."""
        return [need.path(run, **names) for need in self.needs for names in _files(need, run.profile)]

    def reads(self, result: str) -> bool:
        """Whether `result`, named from `results/` down, is one of them; of any profile."""
        return any(re.fullmatch(re.sub(r"{\w+}", "[^/]+", need.where), result) for need in self.needs)


@dataclass(frozen=True)
class NotDrawn:
    """A figure that a run has no results for, and what is lacking; a notebook cell that ends in one says so."""

    name: str
    lacking: str

    def __repr__(self) -> str:
        return f"{self.name}: not drawn, as the run has no {self.lacking}"


def all_figures() -> dict[str, Figure]:
    """Every figure found in this folder, by name, in order. Raises `UserError` when a file and its figure differ."""
    figures = members(__name__, __path__, "figure")
    return dict(sorted(figures.items(), key=lambda item: (item[1].order, item[0])))


def get_figure(name: str) -> Figure:
    """The figure called `name`. Raises `UserError` naming the nearest one when there is none."""
    figures = all_figures()
    if name not in figures:
        raise UserError(f"no figure '{name}': {did_you_mean(name, figures)}")
    return figures[name]


def expected(profile: Profile) -> list[str]:
    """Names of the figures that a run of this profile has when it is done, in order."""
    return [figure.name for figure in all_figures().values() if figure.applies(profile)]


def available(run: Run) -> list[str]:
    """Names of the figures that the run has results for by now, in order."""
    return [name for name in expected(run.profile) if not _lacking(run, name)]


def _lacking(run: Run, name: str) -> str:
    figure = get_figure(name)
    if not figure.applies(run.profile):
        return figure.lacking
    missing = (path for path in figure.files(run) if not path.is_file())
    return next((path.relative_to(run.paths.run).as_posix() for path in missing), "")


def plot(run: Run, name: str) -> Picture:
    """The figure as matplotlib's. Raises `UserError` for an unknown name or a missing result file."""
    figure = get_figure(name)
    with styled():
        return figure.plot(Results(run, figure.needs))


def draw(run: Run, name: str) -> SavedFigure | NotDrawn:
    """Draw a figure from the run's result files and save it. Raises `UserError` for an unknown name."""
    if lacking := _lacking(run, name):
        return NotDrawn(name, lacking)
    return save_figure(plot(run, name), run, name, get_figure(name).caption)


def show(run: Run, name: str) -> "Image | NotDrawn":
    """Draw a figure as the output of a notebook's cell, and save nothing. Raises `UserError` for an unknown name."""
    if lacking := _lacking(run, name):
        return NotDrawn(name, lacking)
    return inline(plot(run, name), run, get_figure(name).caption)
