"""One list of dependencies: pyproject.toml, requirements.lock and environment.yml say the same, and it is complete."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, version

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from robbertje_lib import __version__
from robbertje_lib.experiment import paths

CITATION = yaml.safe_load((paths.PROJECT / "CITATION.cff").read_text(encoding="utf-8"))
README = (paths.PROJECT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((paths.PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
LOCK_LINES = (paths.PROJECT / "requirements.lock").read_text(encoding="utf-8").splitlines()
LOCK = {
    canonicalize_name(requirement.name): requirement
    for requirement in (Requirement(line) for line in LOCK_LINES if not line.startswith("#"))
}
DECLARED = [Requirement(text) for text in (*PROJECT["dependencies"], *EXTRAS["lab"], *EXTRAS["test"])]
# The kernel of notebooks is run, not imported; the others are what the libraries need for a task of ours.
NOT_IMPORTED = {"ipykernel", "huggingface-hub", "jinja2", "onnx", "onnxscript", "seaborn", "tqdm"}


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


def test_conda_and_binder_get_the_locked_versions() -> None:
    environment = yaml.safe_load((paths.PROJECT / "environment.yml").read_text(encoding="utf-8"))
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    options = dict(line.split(" ", 1) for line in pip)
    assert (paths.PROJECT / options["--constraint"]).is_file()
    assert options["--editable"] == ".[lab]" and "lab" in EXTRAS
    assert options["--extra-index-url"].endswith("/cpu"), "the default build of torch alone would fill Binder's disk"
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
    local = {"robbertje_lib", "tests", *(path.stem for path in (paths.PROJECT / "tests").rglob("*.py"))}
    return imported - set(sys.stdlib_module_names) - local


def _distributions(modules: set[str]) -> set[str]:
    known = packages_distributions()
    return {canonicalize_name(known[module][0]) for module in modules}


def test_the_library_imports_only_what_it_declares() -> None:
    declared = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]}
    # Colab has google.colab; a menu needs ipywidgets, of the extra `lab`, and where it is missing there is none.
    used = _distributions(_third_party(["robbertje_lib"]) - {"google"}) - {"ipywidgets"}
    assert used - declared == set()
    assert declared - used <= NOT_IMPORTED


def test_the_tests_import_only_what_is_declared() -> None:
    declared = {canonicalize_name(requirement.name) for requirement in DECLARED}
    assert _distributions(_third_party(["tests"])) - declared == set()


def test_versions_agree() -> None:
    assert PROJECT["version"] == __version__ == CITATION["version"]
    assert CITATION["license"] == PROJECT["license"] == "MIT"
    changes = (paths.PROJECT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[{re.escape(__version__)}\]", changes, flags=re.MULTILINE)


def test_the_citation_names_this_companion_and_the_paper() -> None:
    assert {"cff-version", "message", "title", "authors", "version", "license", "repository-code"} <= set(CITATION)
    paper = CITATION["preferred-citation"]
    assert [author["family-names"] for author in paper["authors"]] == ["Delobelle", "Winters", "Berendt"]
    assert (paper["volume"], paper["year"], paper["start"], paper["end"]) == (11, 2021, 125, 140)


def test_the_repository_has_one_address() -> None:
    url = PROJECT["urls"]["repository"]
    assert CITATION["repository-code"] == url
    start = paths.NOTEBOOKS / "00_start_here.ipynb"
    for file in (paths.PROJECT / "README.md", start):
        named = set(re.findall(r"[\w.-]+/robbertje-companion", file.read_text(encoding="utf-8"))) - {
            "content/robbertje-companion"
        }
        assert named == {url.removeprefix("https://github.com/")}, file.name


def test_launch_badges_open_a_notebook_that_exists() -> None:
    owner_and_name = PROJECT["urls"]["repository"].removeprefix("https://github.com/")
    colab = re.search(rf"\(https://colab\.research\.google\.com/github/{owner_and_name}/blob/main/(\S+?)\)", README)
    binder = re.search(rf"\(https://mybinder\.org/v2/gh/{owner_and_name}/main\?urlpath=lab/tree/(\S+?)\)", README)
    assert colab and binder, "README has no launch badges"
    for badge in (colab, binder):
        assert (paths.PROJECT / badge[1]).is_file()


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_files_that_the_texts_name_exist(name: str) -> None:
    text = (paths.PROJECT / name).read_text(encoding="utf-8")
    linked = re.findall(r"\]\((?!https?://|#)([^)#\s]+)[^)]*\)", text)
    spelt = re.findall(r"`((?:robbertje_lib|notebooks|tests|docs)/[\w./-]+\.\w+)`", text)
    assert linked or spelt
    for target in (name for name in (*linked, *spelt) if "NAME" not in name):
        assert (paths.PROJECT / target).exists(), target


def test_the_api_page_says_what_the_docstrings_say() -> None:
    done = subprocess.run(
        [sys.executable, str(paths.PROJECT / "docs" / "make_api.py"), "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
