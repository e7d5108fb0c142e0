"""Models compiled for a GPU, layer by layer: what lies between two matrix products becomes one kernel.

A whole model would break into several graphs (its masks and positions depend on data); a layer is one. On a CPU
compilation takes minutes that a short training does not give back, so all stays as it is there.
"""

import functools
from collections import defaultdict
from collections.abc import Callable
from typing import TypeVar

import torch
from transformers import PreTrainedModel

# By kind of device; None compiles nothing.
BACKEND: defaultdict[str, str | None] = defaultdict(lambda: None, cuda="inductor")
# Graphs of one layer's code: training or not, masked or not, one sequence or several, of teacher and of student.
MOST_GRAPHS = 64
F = TypeVar("F", bound=Callable)


def compile_layers(model: PreTrainedModel, device: torch.device) -> PreTrainedModel:
    """Have `model` run its layers compiled if its `device` has a backend; weights, their names and `forward` stay.

    Not on a GPU without a kernel for packed attention (before Ampere): there attention would break each layer.
    """
    backend = BACKEND[device.type]
    if backend and (device.type != "cuda" or torch.cuda.get_device_capability(device) >= (8, 0)):
        for layer in model.base_model.encoder.layer:
            layer.compile(**_options(backend))
    return model


def compiled(function: F, device: torch.device) -> F:
    """`function` of tensors as one graph if `device` has a backend, else as it is."""
    backend = BACKEND[device.type]
    return _graph(function, backend) if backend else function


@functools.cache
def _graph(function: F, backend: str) -> F:
    return torch.compile(function, **_options(backend))


def _options(backend: str) -> dict[str, object]:
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, MOST_GRAPHS)
    options: dict[str, object] = {"backend": backend, "dynamic": True}
    if backend == "inductor":
        # Kernels chosen by timing could add up in another order in the next process.
        options["options"] = {"deterministic": True}
    return options
