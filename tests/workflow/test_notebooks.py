"""Every notebook keeps the form that readers and the runner rely on, and says what is missing."""

import ast
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

from robbertje_lib.experiment import paths
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.show import figures
from robbertje_lib.show.explorers import FRONTENDS
from robbertje_lib.workflow.notebook_runs import read_parameters
from tests.support.standin import execute_cells

NOTEBOOKS = sorted(paths.NOTEBOOKS.glob("*.ipynb"))
START = paths.NOTEBOOKS / "00_start_here.ipynb"  # no stage: it shows what the stages have made
STAGES = [path for path in NOTEBOOKS if path != START]
STAGE_PARAMETERS = {"30_distillation": {"model"}, "50_finetuning": {"task"}}
LONGEST = 12  # lines of a code cell


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_it_is_a_valid_notebook_for_any_python_3(path: Path) -> None:
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)


def test_outputs_are_stripped(path: Path) -> None:
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None


def test_it_opens_with_its_purpose_its_parameters_and_its_run(path: Path) -> None:
    notebook = nbformat.read(path, 4)
    # Colab's cell comes before the others: without it there is nothing to import.
    first, second, third = [cell for cell in notebook.cells[:4] if cell.id != "start-colab"][:3]
    assert first.cell_type == "markdown" and first.source.startswith("# ")
    assert second.metadata.tags == ["parameters"]
    parameters = read_parameters(notebook, path.name)
    assert {"profile", "budget"} | STAGE_PARAMETERS.get(path.stem, set()) <= set(parameters)
    assert parameters["budget"] == 1.0
    for line in second.source.splitlines():
        assert "#" in line, f"{line}: say what it means"
    assert "run = open_run(profile, budget)" in third.source.splitlines()


def test_the_first_cell_says_what_goes_in_and_out_and_how_long_it_takes(path: Path) -> None:
    purpose = nbformat.read(path, 4).cells[0].source
    assert purpose.startswith(f"# {path.stem[:2]}. ")
    for told in ("**Reads**", "**Writes**", "**Time**"):
        assert told in purpose, told


def test_links_lead_to_files_that_exist(path: Path) -> None:
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", cell.source):
                assert (path.parent / target).exists(), target


def run_cells(path: Path, names: dict[str, Any]) -> None:
    """Execute a notebook's code cells in this process, `names` being its variables."""
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, f"{path.name}, {cell.id}", "exec"), names)


@pytest.mark.parametrize("stage", [path for path in STAGES if path.stem != "10_corpus"], ids=lambda path: path.stem)
def test_without_its_inputs_a_notebook_says_what_makes_them(stage: Path) -> None:
    """As somebody sees it who opens it first; 10_corpus needs nothing but the sources."""
    with pytest.raises(UserError, match=r"`make reproduce`|run notebook \d0_"):
        run_cells(stage, {})
    assert not list(paths.output_root().rglob("*.json")), "nothing may be left half-written"


def test_the_first_notebook_runs_without_any_results(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    run_cells(START, names)
    assert not paths.output_root().exists(), "looking must not write"
    assert "20_teacher" in names["overview"].stage_table(names["run"]).index


def test_the_first_notebook_is_no_stage() -> None:
    assert START in NOTEBOOKS
    assert "start_here" not in (paths.PROJECT / "Snakefile").read_text(encoding="utf-8")


def test_executed_headless_menus_leave_no_widgets_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook with a menu, executed as papermill and nbconvert do it, holds a plain table."""
    for name in FRONTENDS:
        monkeypatch.delenv(name, raising=False)
    cells = [
        "import pandas as pd\nfrom robbertje_lib.show.explorers import explore",
        "explore(lambda word: pd.DataFrame({'said': [word]}), word={'to sing': 'zingt', 'to run': 'rent'})",
    ]
    notebook = execute_cells(cells, monkeypatch)
    (output,) = notebook.cells[-1].outputs
    assert "zingt" in output.data["text/html"]
    assert "widget" not in nbformat.writes(notebook)


def test_a_cell_calls_the_library_and_shows_one_result(path: Path) -> None:
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type != "code":
            continue
        assert len(cell.source.splitlines()) <= LONGEST, cell.source
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 3, f"{node.name} belongs in robbertje_lib"  # type: ignore[operator]
            assert not isinstance(node, ast.ClassDef)


def test_notebook_90_draws_every_figure_that_is_shipped() -> None:
    text = (paths.NOTEBOOKS / "90_claims_and_figures.ipynb").read_text(encoding="utf-8")
    shipped = [name for name, figure in figures.all_figures().items() if figure.order != figures.LAST]
    assert [name for name in shipped if f'figures.draw(run, \\"{name}\\")' not in text] == []
