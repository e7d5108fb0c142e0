"""The same bits again, on a GPU too."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils import deterministic

# cuBLAS reads it once, at its first product: eight buffers of 4 MiB, so that it sums in the same order every time.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@contextmanager
def same_bits(device: torch.device) -> Iterator[None]:
    """Inside, a computation on a CUDA `device` repeats bit for bit, or raises `RuntimeError` where it cannot.

    Some kernels are slower for it (those that sum by index, attention's backward pass); by how much was not measured.
    On a CPU all is as outside: there the same threads add up in the same order anyway.
    """
    if device.type != "cuda":
        yield
        return
    before, warn = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    deterministic.fill_uninitialized_memory = False  # for finding reads of what nobody wrote; costs a pass over memory
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn)
        deterministic.fill_uninitialized_memory = filled
