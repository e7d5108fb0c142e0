"""A small run with everything that records tell of: real results, figures and report, and notebooks that do nothing."""

import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from robbertje_lib.experiment import paths
from robbertje_lib.experiment.artefacts import write_json
from robbertje_lib.experiment.profile import freeze_profile
from robbertje_lib.experiment.run import Run, open_run
from robbertje_lib.show import figures
from robbertje_lib.show.figure_style import SavedFigure
from robbertje_lib.show.report import write_report
from robbertje_lib.workflow.notebook_runs import run_notebook
from tests.support.result_files import World, conclude, write_results
from tests.support.standin import make_notebook

STAGES = 10


def recorded_run(root: Path) -> Run:
    """A copy of the run below `root`, which must be the output root."""
    shutil.copytree(_template().name, root, dirs_exist_ok=True)
    return open_run(str(root / "tiny.yaml"))


def write_profile(path: Path, change: Any = None) -> Path:
    """Write `smoke` as the profile `tiny`, with two students, once each, and one task, after `change(mapping)`."""
    profile = yaml.safe_load((paths.PROFILES / "smoke.yaml").read_text(encoding="utf-8"))
    profile["name"], profile["replicates"] = "tiny", 1
    profile["finetuning"]["seeds"] = [1, 2]
    profile["students"] = {name: profile["students"][name] for name in ("non_shuffled", "merged")}
    profile["finetuning"]["tasks"] = {"dbrd": profile["finetuning"]["tasks"]["dbrd"]}
    if change:
        change(profile)
    path.write_text(yaml.safe_dump(profile, sort_keys=False), encoding="utf-8")
    return path


# Made once a session: ten kernels take their time. The folder goes with the process.
@functools.cache
def _template() -> "tempfile.TemporaryDirectory[str]":
    folder = tempfile.TemporaryDirectory(prefix="robbertje-test-")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROBBERTJE_OUTPUT", folder.name)
        _make(Path(folder.name).resolve())
    return folder


def _make(root: Path) -> None:
    profile = write_profile(root / "tiny.yaml")
    run = open_run(str(profile))
    freeze_profile(run.profile, run.paths.profile)
    write_results(run, World(examples=60))
    conclude(run)
    stores = {arm: run.paths.corpus("head", arm) / "state.json" for arm in ("non_shuffled", "shuffled", "merged")}
    held_out = run.paths.held_out / "state.json"
    models = {name: run.paths.model(name) / "model.safetensors" for name in run.profile.models}
    for path in (*stores.values(), held_out):
        write_json(path, {"store": path.parent.name})
    for name, path in models.items():
        path.parent.mkdir(parents=True)
        path.write_text(f"weights of {name}")

    def stage(name: str, inputs: list[Path], outputs: list[Path], **more: str) -> None:
        notebook = root / "notebooks" / f"{name.partition('-')[0]}.ipynb"
        literals = "".join(f'{key} = "?"\n' for key in more)
        make_notebook(notebook, f'profile = "tiny"\nbudget = 1.0\n{literals}', ["1 + 1"])
        run_notebook(
            notebook, run.paths.notebook(name), {"profile": str(profile), **more},
            record=run.paths.record(name), inputs=inputs, outputs=outputs,
        )  # fmt: skip

    result = run.paths.result
    students = [result("distillation", f"{name}.json") for name in run.profile.trained]
    pppl, scores, bias = result("pseudo_perplexity.json"), result("scores", "dbrd.json"), result("gender_bias.json")
    predictions = result("predictions", "dbrd.parquet")
    stage(
        "10_corpus",
        [],
        [*stores.values(), held_out, *(result("corpus", f"{s.arm}.json") for s in run.profile.students.values())],
    )
    stage("20_teacher", [*stores.values(), held_out], [result("teacher.json"), models["teacher"]])
    for name in run.profile.trained:
        read = [stores[run.profile.students[run.profile.student_of(name)].arm], held_out, models["teacher"]]
        stage(f"30_distillation-{name}", read, [result("distillation", f"{name}.json"), models[name]], student=name)
    stage("40_pseudo_perplexity", [held_out, *models.values()], [pppl, result("pseudo_perplexity.parquet")])
    stage("50_finetuning-dbrd", [held_out, *models.values()], [predictions, scores], task="dbrd")
    probe = [result(name) for name in ("gender_bias.parquet", "crows_pairs.parquet", "disco.parquet", "probe.json")]
    stage("60_gender_bias", [*models.values()], probe)
    stage("70_significance", [pppl, predictions, scores, *probe], [result("significance.json"), bias])
    stage("80_efficiency", [held_out, *models.values(), scores], [result("efficiency.json")])
    drawn = [figures.draw(run, name) for name in figures.expected(run.profile)]
    pictures = [path for figure in drawn if isinstance(figure, SavedFigure) for path in (figure.svg, figure.png)]
    report = write_report(run)
    read = [
        result("teacher.json"),
        *students,
        pppl,
        predictions,
        scores,
        result("gender_bias.parquet"),
        bias,
        result("significance.json"),
        result("efficiency.json"),
    ]
    stage("90_claims_and_figures", read, [result("claims.json"), *pictures, report])
