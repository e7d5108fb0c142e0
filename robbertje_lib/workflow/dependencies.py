"""Which modules a notebook depends on, so that an edit reruns the stages it can change and no others."""

import ast
import functools
import json
from collections.abc import Collection
from pathlib import Path

from robbertje_lib.experiment import paths

# How a run is opened and written. These change no number: a changed profile reaches a stage as the digest of the
# sections that it reads.
INFRASTRUCTURE = {
    "workflow",
    *(
        f"experiment.{module}"
        for module in (
            "artefacts",
            "errors",
            "heartbeat",
            "paths",
            "profile",
            "provenance",
            "results.record",
            "run",
            "words",
        )
    ),
}
# How results are shown. A stage that computes must not run for hours again for a new axis label.
DISPLAY = {"show"}


def modules_of(
    notebook: Path, ignore: Collection[str], also: Collection[str] = (), package: Path | None = None
) -> list[Path]:
    """Source files of `robbertje_lib` that `notebook` imports, directly or through each other, in sorted order.

    With a module come its data: what it spells as `DATA / "sources.tsv"`, a folder with all its files. Names in
    `ignore` (a module, a subpackage, or `tasks.ner`) are neither listed nor followed; those in `also` are, as if the
    notebook imported them.
    """
    package = package or paths.PACKAGE
    # Not through nbformat: it takes two seconds to import, and every `make plan` would wait for them.
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = "\n".join(_plain("".join(cell["source"])) for cell in cells if cell["cell_type"] == "code")
    waiting = {*_uses(code, package.name)[0], *also}
    files: set[Path] = set()
    while waiting:
        name = waiting.pop()
        file = _file(name, package)
        parents = {name.rsplit(".", depth)[0] for depth in range(name.count(".") + 1)}
        if file is None or file in files or parents & set(ignore):
            continue
        imported, data = _uses(file.read_text(encoding="utf-8"), package.name)
        files |= {file, *_data_files(data, package)}
        waiting |= imported
    return sorted(files)


def _plain(cell: str) -> str:
    """A cell without IPython's own commands, which are no Python."""
    return "\n".join(line for line in cell.splitlines() if not line.startswith(("%", "!")))


def _data_files(names: Collection[str], package: Path) -> set[Path]:
    """Those of the package's `data/`, folders with all that they hold."""
    spelt = {package / "data" / name for name in names}
    return {path for file in spelt for path in (file, *file.rglob("*")) if path.is_file()}


@functools.cache  # most stages have most modules in common, and reading one takes milliseconds
def _uses(code: str, package: str) -> tuple[frozenset[str], frozenset[str]]:
    """What code of a package uses: modules, and files of its `data/`."""
    tree = ast.parse(code)
    return frozenset(_imports(tree, package)), frozenset(_data(tree))


def _data(tree: ast.Module) -> set[str]:
    """What code spells of the package's `data/`: `DATA / "x.tsv"`, `paths.DATA / "folder" / name`."""
    return {
        ast.literal_eval(node.right)
        for node in ast.walk(tree)
        if isinstance(node, ast.BinOp) and ast.unparse(node.left) in {"DATA", "paths.DATA"}
    }


def _imports(tree: ast.Module, package: str) -> set[str]:
    """Modules of the package that code imports, at any depth, named from the package down (`tasks.ner`)."""
    names: set[str] = set()
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in (node for node in ast.walk(tree) if id(node) not in typing_only):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    prefix = f"{package}."
    inside = {name.removeprefix(prefix) for name in names if name.startswith(prefix)}
    # Importing tasks.ner runs tasks/__init__.py too.
    return inside | {name.rpartition(".")[0] for name in inside if "." in name}


def _file(name: str, package: Path) -> Path | None:
    """The file of a module or of a subpackage; None for a name inside a module."""
    base = package.joinpath(*name.split("."))
    return next((file for file in (base.with_suffix(".py"), base / "__init__.py") if file.is_file()), None)
