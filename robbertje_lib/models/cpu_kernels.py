"""Faster matrix products for inference on a CPU: weights reordered once for oneDNN instead of at every call.

PyTorch hands float32 products to MKL, which leaves half of an AMD processor idle. The reordered weights are those
that `torch.compile` would use, without its minutes of compilation. Results agree to the last few bits.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

ROWS = 2048  # how many rows oneDNN should expect; a hint only


def kernels_available() -> bool:
    """Whether this PyTorch can reorder weights for oneDNN."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")


@contextmanager
def packed_weights(model: nn.Module) -> Iterator[None]:
    """While open, the model's linear layers run on reordered copies of their float32 weights (CPU, no gradients).

    Costs the memory of one more copy of those weights; the model itself is not changed.
    """
    layers = [
        m
        for m in model.modules()
        if type(m) is nn.Linear and m.weight.device.type == "cpu" and m.weight.dtype == torch.float32
    ]
    try:
        for layer in layers if kernels_available() else []:
            layer.forward = _packed(layer)  # type: ignore[method-assign]
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)


def _packed(layer: nn.Linear) -> Callable[[Tensor], Tensor]:
    with torch.inference_mode():
        weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), ROWS)
    bias = layer.bias

    def forward(inputs: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")

    return forward
