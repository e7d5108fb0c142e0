"""The number type is found by trial updates, of which nothing stays, and is kept for models of one kind."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

from robbertje_lib.distillation.student import distil
from robbertje_lib.distillation.teacher import train_teacher
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.run import Run
from robbertje_lib.models import devices
from robbertje_lib.models.choices import Choice, KeptChoice, machine
from tests.support.interruption import interrupted_after, weights
from tests.support.tiny_run import AS_PUBLISHED, FAST, tiny_run

Options = Mapping[str, Callable[[], object]]
RECIPES = {"fast": {**FAST, "amount": 4000}, "as_published": {**AS_PUBLISHED, "amount": 8}}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.delenv("ROBBERTJE_PRECISION", raising=False)
    # Whatever this processor is: bfloat16 runs on all, and only speed tells native from not.
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    return tiny_run(tmp_path / "output", RECIPES, replicates=2)


def _find(monkeypatch: pytest.MonkeyPatch, name: str, turns: int = 2) -> None:
    """Let a trial, if there is one, run some turns of each option and find `name` the fastest."""

    def found(options: Options, kept: Path | None = None, *, gain: float) -> Choice:
        for option in options.values():
            for _ in range(turns):
                option()
        return Choice(name=name, reason="so it is found")

    monkeypatch.setattr(devices, "fastest", found)


def test_a_trial_leaves_no_trace(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tried or asked for, a precision comes to the same bits, with dropout and all."""
    for name in ("as_published", "fast"):
        _find(monkeypatch, "bf16")
        before = torch.random.get_rng_state()
        assert distil(run, name).precision.name == "bf16"
        assert torch.equal(torch.random.get_rng_state(), before)
        tried = weights(run, name)
        monkeypatch.setenv("ROBBERTJE_PRECISION", "bf16")
        distil(run, name)
        assert weights(run, name) == tried
        monkeypatch.delenv("ROBBERTJE_PRECISION")


def test_a_resume_keeps_the_precision_whatever_is_faster_by_then(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBBERTJE_PRECISION", "bf16")
    distil(run, "fast")
    alone = weights(run, "fast")
    monkeypatch.delenv("ROBBERTJE_PRECISION")
    kept = run.paths.choice("students-distilbert-fast")
    _keep(kept, "bf16")
    with interrupted_after(4):
        distil(run, "fast", checkpoint_seconds=0.0)
    result = distil(run, "fast")
    assert (result.precision.name, result.precision.reason) == ("bf16", "an update with which it was")
    assert weights(run, "fast") == alone
    # Replicates share it; a model of another shape or recipe is another kind.
    assert distil(run, "fast.2").precision == result.precision
    _find(monkeypatch, "fp32")
    assert distil(run, "fast_bort").precision.name == "fp32"


def test_a_checkpoint_of_another_precision_is_refused(run: Run) -> None:
    kept = run.paths.choice("students-distilbert-fast")
    _keep(kept, "bf16")
    with interrupted_after(2):
        distil(run, "fast", checkpoint_seconds=0.0)
    _keep(kept, "fp32")
    with pytest.raises(UserError, match=r"was made with another precision; delete .*checkpoints/fast to start anew"):
        distil(run, "fast")


def test_teacher_and_students_have_their_own(run: Run) -> None:
    train_teacher(run)
    distil(run, "as_published")
    kept = {file.stem for file in run.paths.choice("x").parent.iterdir()}
    assert kept == {"teacher", "students-distilbert-as_published"}


def _keep(kept: Path, name: str) -> None:
    KeptChoice(machine=machine(), choice=Choice(name=name, reason="which it was")).save(kept)
