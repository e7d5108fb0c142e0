"""The loop resumes bit for bit, refuses what does not belong together, and stops when the loss is not finite."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import load_from_disk
from transformers import AutoModelForMaskedLM, AutoTokenizer

from robbertje_lib.distillation import student, training
from robbertje_lib.distillation.student import distil
from robbertje_lib.distillation.teacher import train_teacher
from robbertje_lib.distillation.training import Progress, Schedule
from robbertje_lib.evaluation.pseudo_perplexity import pseudo_perplexity
from robbertje_lib.experiment import paths
from robbertje_lib.experiment.artefacts import sha256
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.run import Run
from robbertje_lib.models.masked_lm import wrap
from robbertje_lib.models.precision import Precision
from tests.support.tiny_run import AS_PUBLISHED, FAST, tiny_run

RECIPES: dict[str, dict[str, Any]] = {
    "fast": FAST,
    "as_published": AS_PUBLISHED,
    "dropout": {**FAST, "dropout": 0.2, "amount": 300, "amount_unit": "sequences"},
}


class Interrupted(Exception):
    pass


def _interrupt_after(updates: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the loop stop, as by a kill, after so many updates of this process."""
    original, left = training._update, [updates]

    def update(*arguments: Any) -> dict[str, float]:
        if left[0] == 0:
            raise Interrupted
        left[0] -= 1
        return original(*arguments)

    monkeypatch.setattr(training, "_update", update)


def _weights(run: Run, name: str) -> str:
    return sha256(run.paths.model(name) / "model.safetensors")


def _without_time(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in point.items() if not key.endswith("seconds")} for point in points]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return tiny_run(tmp_path / "output", RECIPES)


@pytest.mark.parametrize("student", list(RECIPES))
def test_a_resumed_run_equals_an_uninterrupted_one(run: Run, student: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = distil(run, student)
    expected = _weights(run, student)
    for updates in (1, 7, 3):
        with monkeypatch.context() as patch, pytest.raises(Interrupted):
            _interrupt_after(updates, patch)
            distil(run, student, checkpoint_seconds=0.0)
        assert len(list(run.paths.checkpoints(student).iterdir())) <= training.KEPT_CHECKPOINTS
    resumed = distil(run, student)
    assert _weights(run, student) == expected
    for key in ("updates", "tokens", "sequences", "epochs"):
        assert resumed[key] == whole[key]
    assert _without_time(resumed["curve"]) == _without_time(whole["curve"])
    assert _without_time(resumed["held_out_curve"]) == _without_time(whole["held_out_curve"])


def test_time_before_an_interruption_counts(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        _interrupt_after(9, patch)
        distil(run, "fast", checkpoint_seconds=0.0)
    saved = max(run.paths.checkpoints("fast").iterdir()) / "state.json"
    content = json.loads(saved.read_text())
    content["progress"]["seconds"] += 1000
    saved.write_text(json.dumps(content))
    result = distil(run, "fast")
    assert result["wall_seconds"] > 1000
    assert [point["seconds"] for point in result["curve"]] == sorted(point["seconds"] for point in result["curve"])


def test_killed_processes_resume_to_the_same_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL at random moments, in processes of their own; `ROBBERTJE_KILLS` sets how many (20 takes a minute)."""
    recipe = {**AS_PUBLISHED, "amount": 60}
    weights, environment = {}, {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(paths.PROJECT)}
    for folder, kills in (("whole", 0), ("killed", int(os.environ.get("ROBBERTJE_KILLS", "4")))):
        monkeypatch.setenv("ROBBERTJE_OUTPUT", str(tmp_path / folder))
        run = tiny_run(tmp_path / folder, {"as_published": recipe})
        script = [
            sys.executable,
            "-m",
            "tests.long.kill_and_resume",
            str(tmp_path / folder / "tiny.yaml"),
            "as_published",
        ]
        done = subprocess.run(
            [*script, str(kills)],
            cwd=paths.PROJECT,
            env={**environment, "ROBBERTJE_OUTPUT": str(tmp_path / folder)},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"kills: {kills}" in done.stdout
        weights[folder] = _weights(run, "as_published")
    assert weights["killed"] == weights["whole"]


def test_another_profile_does_not_resume(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        _interrupt_after(2, patch)
        distil(run, "fast", checkpoint_seconds=0.0)
    other = tiny_run(tmp_path / "elsewhere", {"fast": {**FAST, "learning_rate": 2e-3}})
    changed = Run(other.profile, run.paths)
    with pytest.raises(UserError, match=r"was made with another recipe; delete .*checkpoints/fast to start anew"):
        distil(changed, "fast")
    assert not run.paths.model("fast").exists()


def test_a_loss_that_is_not_finite_stops_the_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    original = student.distillation_loss
    calls = [0]

    def poisoned(*arguments: Any) -> Any:
        calls[0] += 1
        losses = original(*arguments)
        return losses._replace(loss=losses.loss * float("nan")) if calls[0] > 8 else losses

    monkeypatch.setattr(student, "distillation_loss", poisoned)
    message = r"loss nan.* at update (\d+) \(store rows \d+.*last good checkpoint is .*update-0+\1;"
    with pytest.raises(UserError, match=message):
        distil(run, "fast", checkpoint_seconds=0.0)
    assert not run.paths.model("fast").exists() and not run.paths.result("distillation", "fast.json").exists()


def test_more_processes_than_batches_are_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Three:
        num_processes, process_index, device, is_main_process = 3, 0, torch.device("cpu"), True

    monkeypatch.setattr(training, "processes", Three)
    with pytest.raises(UserError, match="2 batches an update cannot be dealt to 3 processes"):
        distil(run, "fast")


def test_the_rate_warms_up_and_decays() -> None:
    schedule = Schedule(100, "updates", 1, "update", 2.0, 0.1, 0.0, (0.9, 0.98), 1e-6, 5.0)
    assert [schedule.rate(x) for x in (0.0, 0.05, 0.1, 0.55, 1.0)] == pytest.approx([0, 1, 2, 1, 0])
    assert Progress(update=25).share(schedule) == 0.25


def test_the_teacher_learns_in_two_phases_and_resumes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.paths.model("teacher").rename(run.paths.model("old"))
    whole = train_teacher(run)
    expected = _weights(run, "teacher")
    assert [p["phase"] for p in whole["curve"]] == sorted(p["phase"] for p in whole["curve"])
    assert {p["phase"] for p in whole["curve"]} == {"causal", "masked"}
    assert whole["held_out_curve"][0]["tokens"] >= 4000  # of 8000: masked phase only
    assert whole["held_out_curve"][-1]["loss"] < whole["curve"][0]["loss"]
    assert json.loads(run.paths.result("teacher.json").read_text()) == {"schema_version": 1, **whole}
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        _interrupt_after(11, patch)
        train_teacher(run, checkpoint_seconds=0.0)
    train_teacher(run)
    assert _weights(run, "teacher") == expected


def test_held_out_pseudo_perplexity_is_that_of_the_evaluation(run: Run) -> None:
    tokenizer = AutoTokenizer.from_pretrained(run.paths.tokenizer)
    teacher = AutoModelForMaskedLM.from_pretrained(run.paths.model("teacher"), use_safetensors=True)
    held_out = training.HeldOut(run.paths.held_out, tokenizer, 2048, seed=3)
    rows = {int(row) for batch in held_out.one_by_one for row in batch.rows}
    texts = load_from_disk(str(run.paths.held_out))["text"]
    scored = pseudo_perplexity(wrap(teacher, tokenizer, "teacher"), [texts[row] for row in sorted(rows)])
    assert 900 < len(scored.log_prob) < 1200
    ours = held_out.pseudo_perplexity(teacher, Precision("fp32"))
    assert ours == pytest.approx(scored.summary().corpus, rel=1e-5)
