"""The whole path, from text to report, on known-answer Dutch, as a user runs it.

`python -m tests.long.kill_reproduce --profile smoke` kills such a run again and again and compares what comes out.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from robbertje_lib.experiment import paths
from robbertje_lib.experiment.run import open_run


def _call(output: Path, verb: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "robbertje_lib", verb, "--profile", "smoke", "--cores", "2"]
    environment = {**os.environ, "ROBBERTJE_OUTPUT": str(output)}
    environment.pop("ROBBERTJE_MIRROR", None)  # known-answer Dutch needs no source
    return subprocess.run(command, cwd=paths.PROJECT, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("smoke")
    done = _call(folder, "reproduce")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def run(output: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.setenv("ROBBERTJE_OUTPUT", str(output))
    return open_run("smoke")


def test_every_stage_has_its_record_and_its_notebook(run) -> None:  # type: ignore[no-untyped-def]
    profile = run.profile
    stages = {
        "10_corpus", "20_teacher", "40_pseudo_perplexity", "60_gender_bias", "70_significance", "80_efficiency",
        "90_claims_and_figures", *(f"30_distillation-{m}" for m in profile.models if m != "teacher"),
        *(f"50_finetuning-{t}" for t in profile.finetuning.tasks),
    }  # fmt: skip
    records = {path.stem: json.loads(path.read_text()) for path in (run.paths.run / "records").iterdir()}
    assert set(records) == stages
    for stage, record in records.items():
        assert run.paths.notebook(stage).exists()
        assert record["seconds"] > 0 and record["peak_memory_bytes"] > 0
        assert record["outputs"], stage
        assert record["profile_digest"] == profile.digest()
        assert str(paths.output_root()) not in json.dumps(record)


def test_every_model_is_scored_on_every_task_with_every_seed(run) -> None:  # type: ignore[no-untyped-def]
    for task in run.profile.finetuning.tasks:
        scores = json.loads(run.paths.result("scores", f"{task}.json").read_text())
        assert {(entry["model"], entry["seed"], entry["train"]) for entry in scores["runs"]} == {
            (model, seed, train)
            for model in (*run.profile.models, *run.profile.controls)
            for seed in run.profile.finetuning_seeds(model)
            for train in scores["sizes"]
        }
    assert json.loads(run.paths.result("scores", "dbrd.json").read_text())["sizes"] == [32, 64]
    named = {
        "pseudo_perplexity": run.profile.models,
        "gender_bias": run.profile.models,
        "efficiency": run.profile.groups,
    }
    for name, models in named.items():
        assert set(json.loads(run.paths.result(f"{name}.json").read_text())["models"]) == set(models)
    assert json.loads(run.paths.result("claims.json").read_text())["claims"]


def test_executed_notebooks_hold_no_path_of_this_machine(run) -> None:  # type: ignore[no-untyped-def]
    for notebook in run.paths.run.glob("*.ipynb"):
        text = notebook.read_text(encoding="utf-8")
        assert str(run.paths.root) not in text and str(paths.PROJECT) not in text, notebook.name


def test_figures_come_as_svg_and_png_with_their_origin(run) -> None:  # type: ignore[no-untyped-def]
    drawn = {path.stem for path in run.paths.figures.glob("*.svg")}
    assert len(drawn) >= 4
    assert drawn == {path.stem for path in run.paths.figures.glob("*.png")}
    for path in run.paths.figures.glob("*.svg"):
        assert "known-answer Dutch, not a replication" in path.read_text(encoding="utf-8"), path
    assert (run.paths.figures / "report.html").stat().st_size > 1000


def test_run_again_at_once_nothing_reruns(output: Path) -> None:
    again = _call(output, "plan")
    assert again.returncode == 0
    assert "Nothing to run: every stage is up to date." in again.stdout


def test_an_edit_to_the_probe_would_rerun_the_probe(output: Path) -> None:
    module = paths.PACKAGE / "evaluation" / "gender_bias.py"
    before = module.stat()
    try:
        module.touch()
        planned = re.findall(r"^  (\d\d_\S+)", _call(output, "plan").stdout, flags=re.MULTILINE)
    finally:
        os.utime(module, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert planned == ["60_gender_bias", "70_significance", "90_claims_and_figures"]
