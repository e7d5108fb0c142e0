"""One list of dependencies: pyproject.toml, requirements.lock and environment.yml say the same, and it is complete."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions, version

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from robbertje_lib import __version__, paths

PROJECT = tomllib.loads((paths.PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
LOCK_LINES = (paths.PROJECT / "requirements.lock").read_text(encoding="utf-8").splitlines()
LOCK = {
    canonicalize_name(requirement.name): requirement
    for requirement in (Requirement(line) for line in LOCK_LINES if not line.startswith("#"))
}
DECLARED = [Requirement(text) for text in (*PROJECT["dependencies"], *EXTRAS["lab"], *EXTRAS["test"])]


def test_the_lock_pins_exact_versions_and_nothing_of_this_machine() -> None:
    for requirement in LOCK.values():
        assert re.fullmatch(r"==[0-9][0-9a-z.]*", str(requirement.specifier)), requirement
        assert requirement.url is None and requirement.marker is None
    assert str(LOCK["torch"].specifier) == "==2.13.0"


@pytest.mark.parametrize("declared", DECLARED, ids=lambda requirement: requirement.name)
def test_what_pyproject_declares_the_lock_pins_within_its_range(declared: Requirement) -> None:
    pinned = str(LOCK[canonicalize_name(declared.name)].specifier).removeprefix("==")
    assert pinned in declared.specifier
    assert declared.specifier, "without a lower bound any old version would do"


def test_the_tests_run_with_the_locked_versions() -> None:
    for requirement in DECLARED:
        name = canonicalize_name(requirement.name)
        assert version(name).partition("+")[0] in LOCK[name].specifier, f"{name}: `make .venv` installs the lock"


def test_conda_and_binder_get_the_same_list() -> None:
    environment = yaml.safe_load((paths.PROJECT / "environment.yml").read_text(encoding="utf-8"))
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert [line for line in pip if not line.startswith("--")] == [*PROJECT["dependencies"], *EXTRAS["lab"]]
    (python,) = [entry for entry in environment["dependencies"] if str(entry).startswith("python=")]
    assert python.removeprefix("python=") in Requirement(f"python{PROJECT['requires-python']}").specifier


def _third_party(folders: list[str]) -> set[str]:
    imported: set[str] = set()
    for file in (file for folder in folders for file in (paths.PROJECT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.partition(".")[0])
    local = {"robbertje_lib", *(path.stem for path in (paths.PROJECT / "tests").rglob("*.py"))}
    return imported - set(sys.stdlib_module_names) - local


def _distributions(modules: set[str]) -> set[str]:
    known = packages_distributions()
    return {canonicalize_name(known[module][0]) for module in modules}


def test_the_library_imports_only_what_it_declares() -> None:
    declared = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]}
    used = _distributions(_third_party(["robbertje_lib"]))
    assert used - declared == set()
    # The rest runs without being imported: Snakemake and the notebooks' kernel, and what the libraries need for a task.
    assert declared - used <= {"snakemake", "ipykernel", "huggingface-hub", "seaborn", "jinja2", "tqdm"}


def test_the_tests_import_only_what_is_declared() -> None:
    declared = {canonicalize_name(requirement.name) for requirement in DECLARED}
    assert _distributions(_third_party(["tests"])) - declared == set()


def test_versions_agree() -> None:
    citation = yaml.safe_load((paths.PROJECT / "CITATION.cff").read_text(encoding="utf-8"))
    assert PROJECT["version"] == __version__ == citation["version"]
    assert citation["license"] == PROJECT["license"] == "MIT"
