"""The library as a stranger reads it: names that mean one thing, nothing private borrowed, functions of one sitting."""

import ast
from collections import defaultdict
from pathlib import Path

from robbertje_lib.experiment import paths

MODULES = {
    path.relative_to(paths.PACKAGE).as_posix(): ast.parse(path.read_text()) for path in paths.PACKAGE.rglob("*.py")
}
TESTS = {path.name: ast.parse(path.read_text()) for path in (paths.PROJECT / "tests").rglob("*.py")}
# What every member of a registry, and every command, calls alike.
ROLES = {"main", "plot", "lines"}
LONGEST = 50  # lines of a function


def test_no_two_public_things_share_a_name() -> None:
    places = defaultdict(list)
    for module, tree in MODULES.items():
        for node in tree.body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                places[node.name].append(module)
    assert {name: where for name, where in places.items() if len(where) > 1 and name not in ROLES} == {}


def test_nobody_imports_a_private_name() -> None:
    borrowed = []
    for module, tree in (MODULES | TESTS).items():
        modules = _imported_modules(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("robbertje_lib"):
                borrowed += [(module, name.name) for name in node.names if _is_private(name.name)]
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
                borrowed += [(module, f"{node.value.id}.{node.attr}")] if _is_private(node.attr) else []
    assert borrowed == []


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _imported_modules(tree: ast.Module) -> set[str]:
    """Names under which modules of the library are at hand."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("robbertje_lib"):
            base = paths.PROJECT.joinpath(*node.module.split("."))  # type: ignore[union-attr]
            names |= {a.asname or a.name for a in node.names if _is_module(base / a.name)}
    return names


def _is_module(place: Path) -> bool:
    return place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()


def test_a_function_is_read_in_one_sitting() -> None:
    long = [
        (module, node.name)
        for module, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno >= LONGEST
    ]
    assert long == []
