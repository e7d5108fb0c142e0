"""A checkpoint counts the time before it, is refused for another run, and says so when it is damaged."""

import json
from pathlib import Path
from typing import Any

import pytest

from robbertje_lib.distillation.student import distil
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.run import Run
from tests.support.interruption import interrupted_after
from tests.support.tiny_run import FAST, tiny_run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return tiny_run(tmp_path / "output")


def _last_state(run: Run) -> Path:
    return max(run.paths.checkpoints("fast").iterdir()) / "state.json"


def test_time_before_an_interruption_counts(run: Run) -> None:
    with interrupted_after(9):
        distil(run, "fast", checkpoint_seconds=0.0)
    content = json.loads(_last_state(run).read_text())
    content["state"]["seconds"] += 1000
    _last_state(run).write_text(json.dumps(content))
    result = distil(run, "fast")
    assert result.wall_seconds > 1000
    assert [point.seconds for point in result.curve] == sorted(point.seconds for point in result.curve)


def test_another_profile_does_not_resume(run: Run, tmp_path: Path) -> None:
    with interrupted_after(2):
        distil(run, "fast", checkpoint_seconds=0.0)
    other = tiny_run(tmp_path / "elsewhere", {"fast": {**FAST, "learning_rate": 2e-3}})
    changed = Run(other.profile, run.paths)
    with pytest.raises(UserError, match=r"was made with another recipe; delete .*checkpoints/fast to start anew"):
        distil(changed, "fast")
    assert not run.paths.model("fast").exists()


@pytest.mark.parametrize("damage", ["{", "[]", {"epoch": "one"}, {"epochs": 1}])
def test_a_damaged_checkpoint_is_named(run: Run, damage: str | dict[str, Any]) -> None:
    with interrupted_after(2):
        distil(run, "fast", checkpoint_seconds=0.0)
    content = json.loads(_last_state(run).read_text())
    if isinstance(damage, dict):
        content["state"] |= damage
    _last_state(run).write_text(damage if isinstance(damage, str) else json.dumps(content))
    with pytest.raises(UserError, match=r"^fast: checkpoint .*update-0+2 is damaged \(.*\); delete it, and run again$"):
        distil(run, "fast")
