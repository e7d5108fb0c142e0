"""Compiled layers and head give what plain ones give, from few graphs, each whole."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.functional import scaled_dot_product_attention
from transformers import PreTrainedModel, RobertaConfig

from robbertje_lib.distillation.losses import HeadLosses, head_losses, head_of
from robbertje_lib.models import compiled
from robbertje_lib.models.compiled import compile_layers
from robbertje_lib.models.packed_attention import packing_of
from robbertje_lib.models.shapes import freeze, hidden_states, random_model

CPU = torch.device("cpu")
TOWARDS = torch.linspace(-1, 1, 32)  # a direction of hidden states; their sum is that of a LayerNorm's biases
LENGTHS = ([20, 3, 7, 18], [33], [40] * 5, [64, 63, 5])  # of the sequences of a pass


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


def _plain_flash(q: Tensor, k: Tensor, v: Tensor, starts: Tensor, *rest: Any, scale: float) -> tuple[Tensor]:
    """What the flash kernel computes, where there is none: (tokens, heads, size)."""
    *_, dropout, causal, _ = rest
    assert dropout == 0
    rows = [
        scaled_dot_product_attention(*(x[a:b].transpose(0, 1) for x in (q, k, v)), is_causal=causal, scale=scale)
        for a, b in pairwise(starts.tolist())
    ]
    return (torch.cat(rows, dim=1).transpose(0, 1),)


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Graphs as the compiler finds them, run with a stand-in for the kernel; how many of its calls each has."""
    calls: list[int] = []

    def backend(module: torch.fx.GraphModule, _: list[Tensor]) -> Any:
        flash = [n for n in module.graph.nodes if "_flash_attention_forward" in str(n.target)]
        for node in flash:
            node.target = _plain_flash
        calls.append(len(flash))
        module.recompile()
        return module.forward

    torch._dynamo.reset()
    monkeypatch.setitem(compiled.BACKEND, "cpu", backend)
    yield calls
    torch._dynamo.reset()


def test_compiled_layers_are_the_plain_ones_in_one_graph_each(traced: list[int]) -> None:
    plain, student = _model(9), compile_layers(_model(9), CPU)
    teacher = compile_layers(freeze(_model(9, seed=2), torch.bfloat16), CPU)
    assert list(student.state_dict()) == list(plain.state_dict())
    for training, causal in ((True, False), (True, True), (False, False)):
        for model in (plain, student):
            model.train(training)
        for lengths in LENGTHS:
            packing = packing_of(lengths)
            kernel = replace(packing, flash=True)
            ids = torch.randint(4, 50, (sum(lengths),), generator=torch.Generator().manual_seed(sum(lengths)))
            with torch.autocast("cpu", torch.bfloat16), torch.set_grad_enabled(training):
                expected = hidden_states(plain, ids, packing, causal).float()
                ours = hidden_states(student, ids, kernel, causal).float()
                with torch.no_grad():
                    hidden_states(teacher, ids, kernel)
            torch.testing.assert_close(ours, expected, rtol=0.02, atol=0.05)
            if training:
                pairs = zip(
                    _gradients(student, ours.mul(TOWARDS).sum()),
                    _gradients(plain, expected.mul(TOWARDS).sum()),
                    strict=True,
                )
                for a, b in pairs:
                    assert (a - b).norm() <= 0.1 * b.norm() + 1e-2
    # Every graph holds its layer's attention: nothing breaks; and nine layers take no more graphs than one.
    assert set(traced) == {1} and len(traced) <= 8


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
