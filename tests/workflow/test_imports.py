"""A stage imports what it uses: which packages that take long to import each process may load. No seconds are held."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from robbertje_lib.experiment import paths

# Each takes from a tenth of a second to several seconds on a slow machine, in every process that loads it.
SLOW = {
    "accelerate", "datasets", "ipywidgets", "matplotlib", "onnxruntime", "pandas", "scipy.stats", "seaborn", "sklearn",
    "statsmodels", "torch", "transformers",
}  # fmt: skip
MODEL = {"accelerate", "pandas", "torch", "transformers"}
STATISTICS = {"pandas", "scipy.stats", "statsmodels"}
NOTEBOOKS = {
    "00_start_here": {"pandas"},
    "10_corpus": {"datasets", "pandas", "torch", "transformers"},  # writes stores; the tokenizer brings torch
    "20_teacher": MODEL,
    "30_distillation": MODEL,
    "40_pseudo_perplexity": MODEL,
    "50_finetuning": {"datasets", *MODEL},
    "60_gender_bias": MODEL,
    "70_significance": STATISTICS,
    "80_efficiency": {"onnxruntime", *MODEL},
    "90_claims_and_figures": STATISTICS,
}


def _loaded(code: str, *arguments: str) -> set[str]:
    """What of `SLOW` a fresh process has loaded once it has run `code`."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(' '.join(sys.modules))", *arguments], cwd=paths.PROJECT,
        env={**os.environ, "PYTHONPATH": str(paths.PROJECT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return SLOW & set(done.stdout.split("\n")[-2].split())


def _imports(notebook: Path) -> str:
    """The lines of a notebook that import something of the project's."""
    cells = [c["source"] for c in json.loads(notebook.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]
    code = "\n".join(line for cell in cells for line in "".join(cell).split("\n") if not line.startswith(("%", "!")))
    return "\n".join(
        ast.unparse(node) for node in ast.parse(code).body if isinstance(node, ast.Import | ast.ImportFrom)
    )


def test_every_notebook_has_its_list() -> None:
    assert {notebook.stem for notebook in paths.NOTEBOOKS.glob("[0-9]*.ipynb")} == set(NOTEBOOKS)


@pytest.mark.parametrize("stage", NOTEBOOKS)
def test_a_notebook_loads_what_it_uses(stage: str) -> None:
    assert _loaded(_imports(paths.NOTEBOOKS / f"{stage}.ipynb")) == NOTEBOOKS[stage]


@pytest.mark.parametrize(
    "module",
    ["__main__", "workflow.notebook_runs", "workflow.snakemake_events", "workflow.dependencies", "show.figures"],
)
def test_the_front_door_and_what_runs_a_stage_load_none(module: str) -> None:
    assert _loaded(f"import robbertje_lib.{module}") == set()


@pytest.mark.parametrize("profile", ["demo", "paper"])
def test_resolving_a_profile_loads_none(profile: str) -> None:
    code = "from robbertje_lib.workflow.resolve import resolve; from robbertje_lib.show import figures\n"
    assert _loaded(f"{code}figures.expected(resolve({profile!r}, None, '').profile)") == set()


def test_opening_a_token_store_loads_none(tmp_path: Path) -> None:
    from datasets import Dataset

    Dataset.from_dict({"input_ids": [[0, 5, 2], [0, 2]]}).save_to_disk(tmp_path / "store")
    code = (
        "import sys; from pathlib import Path; from robbertje_lib.experiment.artefacts import open_store\n"
        "assert open_store(Path(sys.argv[1]))['input_ids'].to_pylist() == [[0, 5, 2], [0, 2]]"
    )
    assert _loaded(code, str(tmp_path / "store")) == set()
