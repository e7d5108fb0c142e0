"""Which modules a notebook depends on."""

from pathlib import Path

import pytest

from robbertje_lib.workflow.dependencies import modules_of
from tests.support.standin import make_notebook

MODULES = {
    "__init__": "",
    "alpha": "def f():\n    from robbertje_lib import beta\n",  # late imports count
    "beta": "import robbertje_lib.gamma as g\nimport json\n",
    "gamma": "from robbertje_lib.alpha import f\n"  # a circle
    "from robbertje_lib.experiment import paths\nTABLE = paths.DATA / 'table.tsv'\n",
    "lonely": "from robbertje_lib.experiment.paths import DATA\n\ndef read(name):\n    return DATA / 'words' / name\n",
    "drawing": "from robbertje_lib import lonely\n",
    "tasks/__init__": "",
    "tasks/ner": "from robbertje_lib.gamma import g\n",
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    for name, code in MODULES.items():
        file = tmp_path / "robbertje_lib" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(code)
    for name in ("table.tsv", "words/some.yaml", "words/more/other.yaml", "gamma.tsv"):
        file = tmp_path / "robbertje_lib" / "data" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    return tmp_path / "robbertje_lib"


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("import numpy", []),
        (
            "from robbertje_lib.alpha import f",
            ["alpha.py", "beta.py", "data/table.tsv", "gamma.py"],
        ),
        (
            "%matplotlib inline\n!ls\nfrom robbertje_lib import lonely",
            ["data/words/more/other.yaml", "data/words/some.yaml", "lonely.py"],
        ),
        ("from robbertje_lib import drawing", []),
        ("import robbertje_lib.tasks", ["tasks/__init__.py"]),
        ("from robbertje_lib.tasks.ner import TASK", ["tasks/__init__.py", "tasks/ner.py", "gamma.py"]),
    ],
)
def test_modules_are_followed_but_for_those_ignored(
    tmp_path: Path, package: Path, cell: str, expected: list[str]
) -> None:
    notebook = make_notebook(tmp_path / "10_stage.ipynb", "seed = 1", [cell])
    found = {path.relative_to(package).as_posix() for path in modules_of(notebook, {"drawing"}, package=package)}
    assert set(expected) <= found and "data/gamma.tsv" not in found  # of the module's name, but not read
    if "gamma.py" not in expected:
        assert found == set(expected)


def test_a_whole_subpackage_can_be_ignored(tmp_path: Path, package: Path) -> None:
    notebook = make_notebook(tmp_path / "10_stage.ipynb", "seed = 1", ["from robbertje_lib.tasks.ner import TASK"])
    assert modules_of(notebook, {"tasks"}, package=package) == []


def test_a_module_found_by_name_at_run_time_is_given_as_also(tmp_path: Path, package: Path) -> None:
    notebook = make_notebook(tmp_path / "10_stage.ipynb", "seed = 1", ["2"])
    assert package / "gamma.py" in modules_of(notebook, set(), {"tasks.ner"}, package)
