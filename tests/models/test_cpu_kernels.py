"""Reordered weights give the same products, and leave the model as it was."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from robbertje_lib.experiment.errors import UserError
from robbertje_lib.models import cpu_kernels
from robbertje_lib.models.choices import Choice, KeptChoice, machine
from robbertje_lib.models.cpu_kernels import PLAIN, REORDERED, fastest_kernels, reordered_weights
from robbertje_lib.models.evaluated import load_evaluated
from robbertje_lib.models.log_probs import Queries, predictions
from tests.support.tiny_run import FAST, tiny_run

ONE_DNN = pytest.mark.skipif(not cpu_kernels.kernels_available(), reason="this PyTorch has no oneDNN")


@ONE_DNN
@pytest.mark.parametrize("bias", [True, False])
def test_products_agree(bias: bool) -> None:
    layer = nn.Linear(33, 70, bias=bias)
    inputs = torch.randn(4, 5, 33, generator=torch.Generator().manual_seed(0))
    plain = layer(inputs)
    with reordered_weights(layer):
        reordered = layer(inputs.transpose(0, 1)).transpose(0, 1)
    torch.testing.assert_close(reordered, plain, atol=1e-6, rtol=1e-5)


def test_the_model_is_restored_even_after_an_error() -> None:
    model = nn.Sequential(nn.Linear(3, 3))
    with pytest.raises(ZeroDivisionError), reordered_weights(model):
        assert ("forward" in model[0].__dict__) == cpu_kernels.kernels_available()
        raise ZeroDivisionError
    assert "forward" not in model[0].__dict__


def test_other_types_are_left_alone() -> None:
    layer = nn.Linear(3, 3).bfloat16()
    with reordered_weights(layer):
        assert "forward" not in layer.__dict__


@ONE_DNN
@pytest.mark.parametrize("kept", [PLAIN, REORDERED])
def test_what_a_run_has_kept_decides_for_all_its_models(
    kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROBBERTJE_OUTPUT", str(tmp_path))
    run = tiny_run(tmp_path, {"fast": FAST})
    KeptChoice(machine=machine(), choice=Choice(name=kept, reason="told so")).save(run.paths.choice("scoring"))
    for name in ("teacher", str(run.paths.model("teacher"))):
        model = load_evaluated(run, name)
        layers = [m for m in model.model.modules() if type(m) is nn.Linear]
        queries = Queries(np.array([0]), np.array([2]), np.array([3]))
        for _ in predictions(model, [np.arange(5, 10)], queries):
            assert {"forward" in layer.__dict__ for layer in layers} == {kept == REORDERED}
        assert not any("forward" in layer.__dict__ for layer in layers)


@ONE_DNN
def test_a_run_keeps_what_was_found_and_another_choice_is_refused(tmp_path: Path) -> None:
    layer, inputs = nn.Linear(16, 16), torch.ones(3, 16)
    kept = tmp_path / "choices" / "scoring.json"
    with torch.inference_mode(), fastest_kernels(layer, lambda: layer(inputs), kept):
        found = KeptChoice.load(kept).choice
        assert ("forward" in layer.__dict__) == (found.name == REORDERED)
    KeptChoice(machine=machine(), choice=Choice(name="other", reason="")).save(kept)
    with pytest.raises(UserError, match="says 'other'"), fastest_kernels(layer, lambda: layer(inputs), kept):
        pass


@ONE_DNN
def test_without_a_run_layers_of_one_size_are_timed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def timed(options: object, kept: object) -> Choice:
        asked.append(options)
        return Choice(name=REORDERED, reason="")

    monkeypatch.setattr(cpu_kernels, "fastest", timed)
    monkeypatch.setattr(cpu_kernels, "_chosen", {})
    for size in (7, 7, 9):
        layer = nn.Linear(size, size)
        with fastest_kernels(layer, lambda: None):
            assert "forward" in layer.__dict__
    assert len(asked) == 2
