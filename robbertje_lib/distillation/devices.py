"""Where training runs: the devices, the processes that share it, and the memory it takes."""

import os
import resource
import sys
from pathlib import Path

import torch
from accelerate import PartialState


def processes() -> PartialState:
    """The processes of this run and their devices: one, unless `accelerate launch` or `torchrun` started several."""
    return PartialState(cpu=not torch.accelerator.is_available())


def training_device() -> torch.device:
    """This process's device. On a CPU, `ROBBERTJE_THREADS` is how many threads to take of a shared machine.

    PyTorch's CPU kernels are compiled per matrix size, and batches come in many sizes: kept at their default of
    1,024, the compiled ones add gigabytes. Compiling again costs next to nothing. Call this before any product.
    """
    for cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(cache, "32")
    if threads := os.environ.get("ROBBERTJE_THREADS"):
        torch.set_num_threads(int(threads))
    return processes().device


def peak_memory() -> int:
    """Peak resident memory of this process, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux: getrusage would also count what the parent process held before it started this one
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
