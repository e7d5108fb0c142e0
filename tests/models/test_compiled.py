"""Compiled layers and head give what plain ones give, from few graphs, each whole."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from transformers import PreTrainedModel, RobertaConfig

from robbertje_lib.distillation.losses import HeadLosses, head_losses, head_of
from robbertje_lib.models import compiled
from robbertje_lib.models.compiled import compile_layers
from robbertje_lib.models.shapes import freeze, hidden_states, random_model

CPU = torch.device("cpu")
SHAPES = ((4, 20, 3), (1, 33, 0), (7, 40, 0), (3, 64, 1))  # sequences, length, of it padding


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """All of the compiler but its last step, the kernels; counts the graphs."""
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    monkeypatch.setitem(compiled.BACKEND, "cpu", counter)
    with torch._dynamo.config.patch(recompile_limit=torch._dynamo.config.recompile_limit):
        yield counter
    torch._dynamo.reset()


def _model(layers: int, seed: int = 1) -> PreTrainedModel:
    config = RobertaConfig(
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=80,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return random_model(config, seed)


def _gradients(model: PreTrainedModel, loss: Tensor) -> list[Tensor]:
    model.zero_grad()
    loss.backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def test_compiled_layers_are_the_plain_ones(backend: Any) -> None:
    plain, student = _model(12), compile_layers(_model(12), CPU)
    teacher = compile_layers(freeze(_model(12, seed=2), torch.bfloat16), CPU)
    assert list(student.state_dict()) == list(plain.state_dict())
    for training in (True, False):
        plain.train(training), student.train(training)
        for sequences, length, padding in SHAPES:
            ids = torch.randint(4, 50, (sequences, length), generator=torch.Generator().manual_seed(length))
            mask = torch.ones_like(ids).index_fill(1, torch.arange(length - padding, length), 0) if padding else None
            with torch.autocast("cpu", torch.bfloat16), torch.set_grad_enabled(training):
                ours, expected = (hidden_states(model, ids, mask).float() for model in (student, plain))
                with torch.no_grad():
                    hidden_states(teacher, ids, mask)
            torch.testing.assert_close(ours, expected)
            if training:
                pairs = zip(
                    _gradients(student, ours.square().sum()), _gradients(plain, expected.square().sum()), strict=True
                )
                for a, b in pairs:
                    torch.testing.assert_close(a, b)
    # More than the 8 that are usual, and no more for 12 layers than for one.
    assert 8 < backend.frame_count <= 12


@pytest.mark.parametrize("distilled", [True, False])
def test_a_compiled_head_is_the_plain_one(backend: Any, monkeypatch: pytest.MonkeyPatch, distilled: bool) -> None:
    student, teacher = _model(1), _model(1, seed=2)

    def losses(positions: int, masked: int) -> HeadLosses:
        generator = torch.Generator().manual_seed(positions)
        hidden = torch.randn(positions, 32, generator=generator)
        targets = torch.randint(50, (masked if distilled else positions,), generator=generator)
        shares = torch.rand(positions, generator=generator)
        with torch.no_grad():
            aim = head_of(teacher, hidden) if distilled else None
        options = {"weight_kl": 5.0, "weight_mlm": 2.0, "temperature": 2.0, "kl_shares": shares} if distilled else {}
        return head_losses(head_of(student, hidden), targets, aim, **options)

    graphs = []
    for sizes in ((9, 4), (40, 11), (23, 0), (64, 10)):
        ours = losses(*sizes)
        graphs.append(backend.frame_count)
        gradients = _gradients(student, ours.weighted)
        with monkeypatch.context() as patch:
            patch.setitem(compiled.BACKEND, "cpu", None)
            expected = losses(*sizes)
            for a, b in zip(gradients, _gradients(student, expected.weighted), strict=True):
                torch.testing.assert_close(a, b)
        torch.testing.assert_close(ours, expected)
    assert graphs[0] >= 1 and graphs[-1] <= 3


def test_a_cpu_compiles_nothing() -> None:
    model = compile_layers(_model(1), CPU)
    assert model.base_model.encoder.layer[0]._compiled_call_impl is None
    assert compiled.compiled(_gradients, CPU) is _gradients
