"""The loop resumes bit for bit, and stops when the loss is not finite or updates cannot be dealt out."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel

from robbertje_lib.distillation import student, training, updates
from robbertje_lib.distillation.job import KEPT_CHECKPOINTS
from robbertje_lib.distillation.student import distil
from robbertje_lib.experiment import paths
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.run import Run
from tests.support.interruption import interrupted_after, weights
from tests.support.tiny_run import AS_PUBLISHED, FAST, tiny_run

RECIPES: dict[str, dict[str, Any]] = {
    "fast": FAST,
    "as_published": AS_PUBLISHED,
    "dropout": {**FAST, "dropout": 0.2, "amount": 300, "amount_unit": "sequences"},
}


def _without_time(points: Sequence[BaseModel]) -> list[dict[str, Any]]:
    return [point.model_dump(exclude={"seconds", "training_seconds"}) for point in points]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return tiny_run(tmp_path / "output", RECIPES)


@pytest.mark.parametrize("student", list(RECIPES))
def test_a_resumed_run_equals_an_uninterrupted_one(run: Run, student: str) -> None:
    whole = distil(run, student)
    expected = weights(run, student)
    for number in (1, 7, 3):
        with interrupted_after(number):
            distil(run, student, checkpoint_seconds=0.0)
        assert len(list(run.paths.checkpoints(student).iterdir())) <= KEPT_CHECKPOINTS
    resumed = distil(run, student)
    assert weights(run, student) == expected
    for key in ("updates", "tokens", "sequences", "epochs"):
        assert getattr(resumed, key) == getattr(whole, key)
    assert _without_time(resumed.curve) == _without_time(whole.curve)
    assert _without_time(resumed.held_out_curve) == _without_time(whole.held_out_curve)


def test_made_ahead_and_read_late_a_run_is_the_same(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU: worker processes make the passes, and totals are read an update late; also when it resumes."""
    whole = distil(run, "dropout")
    expected = weights(run, "dropout")
    monkeypatch.setitem(updates.MAKERS, "cpu", 2)
    monkeypatch.setitem(training.UNREAD, "cpu", 1)
    with interrupted_after(9):
        distil(run, "dropout", checkpoint_seconds=0.0)
    resumed = distil(run, "dropout")
    assert weights(run, "dropout") == expected
    assert _without_time(resumed.curve) == _without_time(whole.curve)
    assert _without_time(resumed.held_out_curve) == _without_time(whole.held_out_curve)


def test_killed_processes_resume_to_the_same_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL at random moments, in processes of their own; `ROBBERTJE_KILLS` sets how many (20 takes a minute)."""
    recipe = {**AS_PUBLISHED, "amount": 60}
    ended, environment = {}, {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(paths.PROJECT)}
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
        ended[folder] = weights(run, "as_published")
    assert ended["killed"] == ended["whole"]


@pytest.mark.parametrize("unread", [0, 1])
def test_a_loss_that_is_not_finite_stops_the_run(run: Run, monkeypatch: pytest.MonkeyPatch, unread: int) -> None:
    monkeypatch.setitem(training.UNREAD, "cpu", unread)
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
