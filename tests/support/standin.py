"""A copy of the project with tiny notebooks in place of the real ones, to test what decides and runs them."""

import shutil
from pathlib import Path

import nbformat
import pytest
import yaml
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

from robbertje_lib.experiment import paths

# Each stage's own stand-in module, and the result files its notebook writes (`model:` and `store:` are folders).
STAGES = {
    "10_corpus": (
        "standin_corpus",
        ["store:arms", "store:held_out", "store:teacher", "tokenizer", "corpus/documents.json", "corpus/{arm}.json"],
    ),
    "20_teacher": ("standin_teacher", ["teacher.json", "model:teacher"]),
    "30_distillation": ("standin_distillation", ["distillation/{model}.json", "model:{model}"]),
    "40_pseudo_perplexity": ("standin_pseudo_perplexity", ["pseudo_perplexity.json", "pseudo_perplexity.parquet"]),
    "50_finetuning": ("standin_finetuning", ["predictions/{task}.parquet", "scores/{task}.json"]),
    "60_gender_bias": (
        "standin_gender_bias",
        ["gender_bias.parquet", "crows_pairs.parquet", "disco.parquet", "probe.json"],
    ),
    "70_significance": ("standin_significance", ["significance.json", "gender_bias.json"]),
    "80_efficiency": ("standin_efficiency", ["efficiency.json", "form_losses.parquet"]),
    "90_claims_and_figures": ("standin_claims", ["claims.json", "report"]),
}
WRITER = '''"""Writes what a stage writes."""

from robbertje_lib.experiment import artefacts

CONTENT = (
    '{"schema_version": 3, "kind": "instrument check", "alpha": 0.05, "claims": [], "instruments": [], '
    '"form_losses": []}'  # as `make reproduce` reads it at its end
)


def write(run, names, **values):
    for name in with_pictures(run, names):
        for arm in ["non_shuffled", "shuffled", "merged"]:
            path = locate(run, name.format(arm=arm, **values), arm)
            with artefacts.atomic_path(path) as temporary:
                temporary.write_text(CONTENT)


def with_pictures(run, names):
    """Beside the report, the figures that the profile leads to."""
    if "report" not in names:
        return names
    from robbertje_lib.show import figures

    pictures = figures.expected(run.profile)
    return [*names, *(f"picture:{name}.{kind}" for name in pictures for kind in ("svg", "png"))]


def locate(run, name, arm):
    if name == "store:arms":
        return run.paths.corpus("head", arm) / "state.json"
    if name == "store:teacher":
        return run.paths.teacher_text / "state.json"
    if name == "store:held_out":
        return run.paths.held_out / "state.json"
    if name == "tokenizer":
        return run.paths.tokenizer / "tokenizer.json"
    if name == "report":
        return run.paths.figures / "report.html"
    if name.startswith("picture:"):
        return run.paths.figures / name.removeprefix("picture:")
    if name.startswith("model:"):
        return run.paths.model(name.removeprefix("model:")) / "model.safetensors"
    return run.paths.result(*name.split("/"))
'''


def make_notebook(path: Path, parameters: str, cells: list[str]) -> Path:
    """Write a notebook whose first code cell is the tagged `parameters`."""
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = new_notebook(metadata={"kernelspec": kernel})
    notebook.cells = [new_code_cell(parameters, metadata={"tags": ["parameters"]}), *map(new_code_cell, cells)]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


def execute_cells(cells: list[str], patch: pytest.MonkeyPatch) -> NotebookNode:
    """A notebook of these code cells, executed as papermill and nbconvert do it, with the project at hand."""
    patch.setenv("PYTHONPATH", str(paths.PROJECT))
    notebook = new_notebook(cells=[new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, kernel_name="python3").execute()
    return notebook


def make_project(root: Path) -> Path:
    """The project below `root`: the real Snakefile and runner, stand-ins for every notebook and stage module.

    Its profile `tiny` has one student, distilled once, and two tasks. A stage waits, or fails, when the file `<stage>.wait` or
    `<stage>.fail` stands in `root`.
    """
    package = root / "robbertje_lib"
    shutil.copytree(paths.PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(paths.PROJECT / "Snakefile", root / "Snakefile")
    (package / "standin.py").write_text(WRITER)
    for stage, (module, names) in STAGES.items():
        (package / f"{module}.py").write_text("from robbertje_lib.standin import write\n")
        extra = {"30_distillation": 'model = "merged"\n', "50_finetuning": 'task = "ner"\n'}.get(stage, "")
        value = {"30_distillation": ", model=model", "50_finetuning": ", task=task"}.get(stage, "")
        make_notebook(
            root / "notebooks" / f"{stage}.ipynb",
            f'profile = "tiny"\nbudget = 1.0\n{extra}',
            [
                "from robbertje_lib.experiment.run import open_run\nrun = open_run(profile, budget)",
                f"import pathlib, time\nfrom robbertje_lib.experiment.errors import UserError\nroot = pathlib.Path({str(root)!r})\n"
                f"while (root / '{stage}.wait').exists():\n    time.sleep(0.05)\n"
                f"if (root / '{stage}.fail').exists():\n    raise UserError('the text is empty; add some')",
                f"from robbertje_lib.{module} import write\nwrite(run, {names!r}{value})",
            ],
        )
    write_profile(root, lambda profile: None)
    return root


def write_profile(root: Path, change) -> None:  # type: ignore[no-untyped-def]
    """Write the profile `tiny`: `smoke` with one student, distilled once, and two tasks, after `change(mapping)`."""
    profile = yaml.safe_load((paths.PROFILES / "smoke.yaml").read_text(encoding="utf-8"))
    profile |= {"name": "tiny", "replicates": 1}
    profile["students"] = {"merged": profile["students"]["merged"]}
    profile["finetuning"]["tasks"] = {task: profile["finetuning"]["tasks"][task] for task in ("ner", "pos")}
    change(profile)
    target = root / "robbertje_lib" / "profiles" / "tiny.yaml"
    target.parent.mkdir(exist_ok=True)
    target.write_text(yaml.safe_dump(profile), encoding="utf-8")
