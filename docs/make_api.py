"""Writes docs/api.md from the docstrings of robbertje_lib: `python docs/make_api.py`; with `--check` it only compares.

The source is read, not imported, so that it takes no time and needs no packages.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
PACKAGE = PROJECT / "robbertje_lib"
PAGE = PROJECT / "docs" / "api.md"
# In the order the data flows; what is not listed comes after it, by name.
ORDER = (
    "experiment", "known_answer", "corpus", "models", "distillation", "tasks", "evaluation", "statistics",
    "conclusions", "show", "workflow",
)  # fmt: skip
HEADING = """# The library, module by module

Every public function and class with the first paragraph of its docstring, in the order the data flows; units, shapes
and errors are in the source. Made from it by `python docs/make_api.py`.
"""


def main() -> int:
    """Write the page, or with `--check` say whether it is up to date; returns the exit status."""
    page = "\n".join([HEADING, *(line for path in modules() for line in described(path))])
    if "--check" not in sys.argv:
        PAGE.write_text(page, encoding="utf-8")
    elif not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != page:
        print("docs/api.md is not what the docstrings say; run `python docs/make_api.py`", file=sys.stderr)
        return 1
    return 0


def modules() -> list[Path]:
    """Every module of the package, subpackages after the module they belong to."""
    found = [path for path in PACKAGE.rglob("*.py") if path.name != "__main__.py" and path.parent.name != "data"]
    place = {name: number for number, name in enumerate(ORDER)}
    return sorted(found, key=lambda path: (place.get(_name(path).partition(".")[0], len(ORDER)), _name(path)))


def described(path: Path) -> Iterator[str]:
    """The lines of one module: its purpose, then a line for each public function and class."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    name = _name(path)
    if not name:  # the package itself: its docstring is README's business
        return
    yield f"\n## [{name}](../{path.relative_to(PROJECT).as_posix()})\n"
    yield f"{_first_paragraph(tree)}\n"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield f"- **`{_signature(node)}`** {_first_paragraph(node)}"


def _signature(node: ast.FunctionDef | ast.ClassDef) -> str:
    if isinstance(node, ast.ClassDef):
        return node.name
    returned = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{node.name}({ast.unparse(node.args)}){returned}"


def _first_paragraph(node: ast.Module | ast.FunctionDef | ast.ClassDef) -> str:
    return " ".join((ast.get_docstring(node) or "").partition("\n\n")[0].split())


def _name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")


if __name__ == "__main__":
    sys.exit(main())
