"""What the Colab cell would install, and what it never touches."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import packaging
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from robbertje_lib.experiment import paths
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.workflow import colab

DECLARED = {canonicalize_name(requirement.name): requirement for requirement in colab.requirements()}
LOCKED = {
    canonicalize_name(name): version
    for name, _, version in (
        line.strip().partition("==")
        for line in (paths.PROJECT / "requirements.lock").read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    )
}
# A GPU machine's torch has a local version; the rest is older than the project asks for, or not there.
PREINSTALLED = {"torch": "2.11.0+cu128", "torchvision": "0.26.0+cu128", "numpy": "2.0.2", "pandas": "2.2.2",
                "transformers": "4.57.1", "datasets": "4.0.0", "scipy": "1.16.3", "packaging": "25.0"}  # fmt: skip


def test_where_everything_is_installed_nothing_is_missing() -> None:
    assert colab.lacking(LOCKED) == []


def test_exactly_what_is_absent_or_out_of_range_is_installed() -> None:
    missing = {
        canonicalize_name(Requirement(entry.requirement).name): entry.installed for entry in colab.lacking(PREINSTALLED)
    }
    assert set(missing) == set(DECLARED) - {"torch", "numpy", "pandas", "scipy", "packaging"}
    assert missing["transformers"] == "4.57.1" and missing["datasets"] == "4.0.0"
    assert missing["snakemake"] is None


@pytest.mark.parametrize("name", [name for name in DECLARED if name not in colab.KEPT])
def test_each_requirement_is_installed_where_it_alone_is_missing(name: str) -> None:
    installed = {other: version for other, version in LOCKED.items() if other != name}
    assert [entry.requirement for entry in colab.lacking(installed)] == [str(DECLARED[name])]


@pytest.mark.parametrize(
    ("name", "version"), [("torch", "2.5.1+cu121"), ("numpy", "1.26.4"), ("torch", None), ("numpy", None)]
)
def test_torch_and_numpy_are_never_installed_or_replaced(name: str, version: str | None) -> None:
    installed = {**PREINSTALLED, name: version or ""}
    if version is None:
        del installed[name]
    with pytest.raises(UserError, match=f"this Python has .*{name}.* not touched"):
        colab.lacking(installed)


def test_pip_is_held_to_the_versions_that_are_there() -> None:
    assert colab.constraints(PREINSTALLED) == ["numpy==2.0.2", "torch==2.11.0+cu128", "torchvision==0.26.0+cu128"]


def test_it_knows_what_this_session_has_in_use() -> None:
    assert {"pytest", "nbformat", "packaging"} <= colab.loaded_distributions()
    assert "snakemake" not in colab.loaded_distributions()


def test_where_nothing_is_missing_it_says_what_was_kept(capsys: pytest.CaptureFixture[str]) -> None:
    colab.set_up()
    told = capsys.readouterr().out
    assert told.startswith(f"0 of {len(DECLARED)} packages were missing; kept as they were: numpy {LOCKED['numpy']}")


def test_it_is_imported_before_anything_is_installed(tmp_path: Path) -> None:
    shutil.copytree(Path(packaging.__file__).parent, tmp_path / "packaging")  # which Colab has
    code = "from robbertje_lib.workflow import colab; print(len(colab.requirements()))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(paths.PROJECT), str(tmp_path)])}
    bare = [sys.executable, "-S", "-c", code]  # without site-packages
    done = subprocess.run(bare, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.stdout.strip() == str(len(DECLARED)), done.stderr


def _cell() -> str:
    notebook = nbformat.read(paths.NOTEBOOKS / "00_start_here.ipynb", as_version=4)
    return next(cell.source for cell in notebook.cells if cell.cell_type == "code")


def test_anywhere_but_on_colab_the_cell_does_nothing() -> None:
    before = list(sys.path)
    exec(_cell(), {})
    assert sys.path == before


def test_on_colab_the_cell_fetches_the_project_and_sets_it_up(tmp_path: Path) -> None:
    """In a process of its own, with this project as the repository; run twice, as after a restart."""
    repository = tmp_path / "repository"
    kept = (
        "robbertje_lib/__init__.py",
        "robbertje_lib/workflow/colab.py",
        "robbertje_lib/experiment/errors.py",
        "robbertje_lib/experiment/paths.py",
        "pyproject.toml",
    )
    for name in kept:
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(paths.PROJECT / name, repository / name)
    git = ["git", "-C", str(repository), "-c", "user.name=test", "-c", "user.email=test@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "test"]):
        subprocess.run([*git, *command], check=True, capture_output=True)
    url = tomllib.loads((paths.PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["repository"]
    cell = (
        _cell().replace("/content/robbertje-companion", str(tmp_path / "content")).replace(url, f"file://{repository}")
    )
    code = f"import sys, types\nsys.modules['google.colab'] = types.ModuleType('google.colab')\n{cell}\nprint(colab.__file__)"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment
        )
        assert done.returncode == 0, done.stderr
        assert "0 of" in done.stdout and done.stdout.strip().endswith(
            str(tmp_path / "content/robbertje_lib/workflow/colab.py")
        )
