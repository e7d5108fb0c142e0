"""Where training runs: the devices, the processes that share it, its memory, and its number type, and why."""

import os
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import torch
from accelerate import PartialState

from robbertje_lib.experiment.errors import UserError
from robbertje_lib.models.choices import fastest

WORTHWHILE = 1.2  # times as fast: so clear a gain is found again whatever the load


@dataclass(frozen=True)
class Precision:
    """`bf16`: matrix products in bfloat16, all else in float32; `fp32`: everything in float32."""

    name: Literal["fp32", "bf16"]
    reason: str = "asked for"

    def autocast(self, device: torch.device) -> AbstractContextManager[None]:
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.name == "bf16")

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.name == "bf16" else torch.float32


def choose_precision(
    device: torch.device,
    wanted: Literal["auto", "float32"] = "auto",
    tried: Callable[[Precision], Iterator[object]] | None = None,
    kept: Path | None = None,
) -> Precision:
    """bf16 where the hardware multiplies it natively and, on a CPU, a trial shows that it pays; says why.

    tried: gives an iterator of which every `next` does the work to be done in a precision; without one, what is native
    is taken. `kept` is the file that keeps a choice by trial, as in `choices.fastest`. A recipe that wants float32 has
    it. Else `ROBBERTJE_PRECISION` (`fp32` or `bf16`) decides if it is set. Raises `UserError` for another value, or a
    damaged `kept`.
    """
    if wanted == "float32":
        return Precision("fp32", "the recipe says so")
    if asked := os.environ.get("ROBBERTJE_PRECISION"):
        if asked not in ("fp32", "bf16"):
            raise UserError(f"ROBBERTJE_PRECISION {asked}: choose fp32 or bf16")
        return Precision(cast(Literal["fp32", "bf16"], asked), "ROBBERTJE_PRECISION says so")
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Precision("bf16", "this GPU multiplies bfloat16 natively")
        return Precision("fp32", "this GPU has no native bfloat16")
    if device.type != "cpu":
        return Precision("fp32", f"bfloat16 is untried on {device.type}")
    capability = torch.backends.cpu.get_cpu_capability()
    amx = torch.cpu._is_amx_tile_supported()
    # What the processor has does not count where the user told PyTorch to use less of it.
    if not (amx or torch.cpu._is_avx512_bf16_supported()) or not capability.startswith("AVX512"):
        return Precision("fp32", f"this CPU ({capability}) multiplies no bfloat16 natively")
    if tried is None:
        return Precision("bf16", f"this CPU has {'AMX' if amx else 'AVX512-BF16'}")
    choice = fastest({name: _turns(tried, Precision(name)) for name in ("fp32", "bf16")}, kept, gain=WORTHWHILE)
    return Precision(cast(Literal["fp32", "bf16"], choice.name), f"an update with {choice.reason}")


def _turns(tried: Callable[[Precision], Iterator[object]], precision: Precision) -> Callable[[], object]:
    """One turn a call. Nothing is made ready before the first: a kept choice needs no trial."""
    turns: list[Iterator[object]] = []

    def turn() -> object:
        if not turns:
            turns.append(tried(precision))
        return next(turns[0])

    return turn


def processes() -> PartialState:
    """The processes of this run and their devices: one, unless `accelerate launch` or `torchrun` started several."""
    return PartialState(cpu=not torch.accelerator.is_available())


def training_device() -> torch.device:
    """This process's device. On a CPU, `ROBBERTJE_THREADS` is how many threads to take of a shared machine.

    PyTorch's bfloat16 kernels for CPUs are compiled per matrix size. Kept at their default of 1,024, they add gigabytes
    where sizes are many; with 32, a small model compiles for a third of its time. Call this before any product.
    """
    for cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(cache, "256")
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
