"""Every notebook keeps the form that readers and the runner rely on."""

import ast
from pathlib import Path

import nbformat
import pytest

from robbertje_lib import paths
from robbertje_lib.notebook_runs import read_parameters

NOTEBOOKS = sorted(paths.NOTEBOOKS.glob("*.ipynb"))
STAGE_PARAMETERS = {"30_distillation": {"student"}, "50_finetuning": {"task"}}
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
    first, second, third = notebook.cells[:3]
    assert first.cell_type == "markdown" and first.source.startswith("# ")
    assert second.metadata.tags == ["parameters"]
    parameters = read_parameters(notebook, path.name)
    assert {"profile", "budget"} | STAGE_PARAMETERS.get(path.stem, set()) <= set(parameters)
    assert parameters["budget"] == 1.0
    for line in second.source.splitlines():
        assert "#" in line, f"{line}: say what it means"
    assert "run = open_run(profile, budget)" in third.source.splitlines()


def test_a_cell_calls_the_library_and_shows_one_result(path: Path) -> None:
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type != "code":
            continue
        assert len(cell.source.splitlines()) <= LONGEST, cell.source
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 3, f"{node.name} belongs in robbertje_lib"  # type: ignore[operator]
            assert not isinstance(node, ast.ClassDef)
