"""Faster matrix products for inference on a CPU: weights reordered once for oneDNN instead of at every call.

PyTorch hands float32 products to MKL, which leaves half of an AMD processor idle; on others MKL is the faster one, so
that the model itself decides, timed with both. The reordered weights are those that `torch.compile` would use, without
its minutes of compilation. Results agree to the last few bits.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from robbertje_lib.models.choices import Choice, fastest

ROWS = 2048  # how many rows oneDNN should expect; a hint only
PLAIN, REORDERED = "plain", "reordered"
_chosen: dict[frozenset[torch.Size], Choice] = {}  # where no run keeps it
Forwards = dict[nn.Linear, Callable[[Tensor], Tensor]]


def kernels_available() -> bool:
    """Whether this PyTorch can reorder weights for oneDNN."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")


@contextmanager
def fastest_kernels(model: nn.Module, forward: Callable[[], object], kept: Path | None = None) -> Iterator[None]:
    """While open, the model's float32 linear layers run as makes `forward`, a usual pass of it, fastest (CPU only).

    `kept` is the file of a run that keeps the choice, for all its models: scores that are compared come from the same
    kernels. Without it, layers of the same sizes are timed once in a process. Raises `UserError` for a damaged file.
    """
    layers = _layers(model)
    reordered = cache(lambda: {layer: _reordered(layer) for layer in layers})

    def forward_reordered() -> object:
        with _replaced(reordered()):
            return forward()

    if not layers or not kernels_available():
        yield
        return
    sizes = frozenset(layer.weight.shape for layer in layers)
    choice = None if kept else _chosen.get(sizes)
    if choice is None:
        choice = fastest({PLAIN: forward, REORDERED: forward_reordered}, kept)
        if not kept:
            _chosen[sizes] = choice
    with _replaced(reordered() if choice.name == REORDERED else {}):
        yield


@contextmanager
def reordered_weights(model: nn.Module) -> Iterator[None]:
    """While open, the model's linear layers run on reordered copies of their float32 weights (CPU, no gradients).

    Costs the memory of one more copy of those weights; the model itself is not changed.
    """
    with _replaced({layer: _reordered(layer) for layer in _layers(model)} if kernels_available() else {}):
        yield


def _layers(model: nn.Module) -> list[nn.Linear]:
    return [
        m
        for m in model.modules()
        if type(m) is nn.Linear and m.weight.device.type == "cpu" and m.weight.dtype == torch.float32
    ]


@contextmanager
def _replaced(forwards: Forwards) -> Iterator[None]:
    try:
        for layer, forward in forwards.items():
            layer.forward = forward  # type: ignore[method-assign]
        yield
    finally:
        for layer in forwards:
            layer.__dict__.pop("forward", None)


def _reordered(layer: nn.Linear) -> Callable[[Tensor], Tensor]:
    with torch.inference_mode():
        weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), ROWS)
    bias = layer.bias

    def forward(inputs: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")

    return forward
