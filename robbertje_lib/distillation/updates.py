"""The updates of a run, and their passes made ahead of them.

What an update computes is known before anything is computed: its batches follow from (seed, epoch, number), its phase
and learning rate from what was done before. So worker processes make the passes of the next updates while the device
works on this one; with none, each update's are made when its turn comes. The passes are the same bit for bit.
"""

import functools
import itertools
import os
import signal
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from robbertje_lib.distillation.batching import Batch, join, make_batch, masked_count, pack
from robbertje_lib.distillation.job import Job, Objective, TrainingState, UpdateCounts

DROPOUT = 2  # random stream; see batching.ORDER and MASK
# Positions of a pass that small batches of one update are joined in; what they are averaged over stays their own.
PASS_POSITIONS = defaultdict(lambda: 2**15, cpu=2**11)
# Processes that make passes ahead. On a CPU none: all its cores are at work on the updates themselves.
MAKERS = defaultdict(int, cuda=2)


class Update(NamedTuple):
    """Which batches one optimizer update reads, and where in the run it stands."""

    epoch: int
    first: int  # number of the first batch in its epoch
    batches: list[NDArray[np.int32]]  # row numbers
    tokens: int
    sequences: int
    ends_epoch: bool
    share: float  # of the run that is done as it starts, 0 to 1
    phase: str

    def count_in(self, state: TrainingState) -> None:
        """Add this update, the next one, to what `state` has done."""
        state.update += 1
        state.tokens += self.tokens
        state.sequences += self.sequences
        state.epoch, state.batch = (
            (self.epoch + 1, 0) if self.ends_epoch else (self.epoch, self.first + len(self.batches))
        )


class Pass(NamedTuple):
    """One forward and backward pass of an update."""

    batch: Batch
    counts: Tensor  # (3, joined batches) float32; what sums are divided by, see `UpdateCounts`
    positions: int  # computed, what fills the row included
    dropout_seed: int

    def pin_memory(self) -> "Pass":
        """Its tensors in pinned memory, whence they move to a GPU without waiting."""
        return _mapped(self, (Tensor, _Array), lambda value: _tensor(value).pin_memory())

    def on(self, device: torch.device) -> tuple[Batch, UpdateCounts]:
        """What an objective takes, on `device`."""
        return self.batch.to(device), UpdateCounts(*self.counts.to(device, non_blocking=True))


def planned_updates(job: Job, objective: Objective, state: TrainingState, at_once: int) -> Iterator[Update]:
    """The updates from `state` to the end of the run, of `at_once` batches each, or fewer where an epoch ends."""
    ahead, lengths = state.model_copy(), job.plan.store.lengths
    for epoch in itertools.count(state.epoch):
        if ahead.share(job.recipe) == 1:
            return
        batches = job.plan.epoch(epoch)
        for first in range(ahead.batch, len(batches), at_once):
            share = ahead.share(job.recipe)
            if share == 1:
                return
            these = batches[first : first + at_once]
            tokens, sequences = int(sum(lengths[rows].sum() for rows in these)), sum(map(len, these))
            ends_epoch = first + at_once >= len(batches)
            update = Update(epoch, first, these, tokens, sequences, ends_epoch, share, objective.phase(share))
            update.count_in(ahead)
            yield update
        ahead.batch = 0


@dataclass(frozen=True)
class PassMaker(Dataset[list[Pass]]):
    """Makes the passes that one of `processes` processes has in an update."""

    job: Job
    process: int
    processes: int
    budget: int  # positions

    def __getitem__(self, update: Update) -> list[Pass]:
        plan, masking = self.job.plan, self.job.masking
        lengths, batches = plan.store.lengths, update.batches
        counts = np.array([_counts(lengths[rows], masking.fraction) for rows in batches], dtype=np.float32)
        averages = np.broadcast_to(counts.sum(axis=0), counts.shape)
        if self.job.recipe.normalisation == "micro_batch":
            averages = counts * len(batches)
        own = range(self.process, len(batches), self.processes)
        passes = []
        for members in pack([batches[i] for i in own], lengths, self.budget):
            numbers = [own[i] for i in members]
            keys = [(plan.seed, update.epoch, update.first + i) for i in numbers]
            drawn = None if update.phase == "causal" else masking
            batch = join([make_batch(plan.store, batches[i], drawn, key) for i, key in zip(numbers, keys, strict=True)])
            shares = torch.from_numpy(averages[numbers].T.copy())
            positions = batch.tokens + batch.packing.filler
            passes.append(Pass(batch, shares, positions, _dropout_seed(keys[0])))
        return passes


def updates_ahead(
    updates: Iterator[Update], maker: PassMaker, device: torch.device
) -> Generator[tuple[Update, list[Pass]], None, None]:
    """Each update with its passes, in pinned memory for a GPU. Close it, and the processes that make them end."""
    told, asked = itertools.tee(updates)
    makers = MAKERS[device.type]
    loader = DataLoader(
        maker,
        sampler=asked,
        batch_size=None,
        collate_fn=_to_send if makers else list,
        num_workers=makers,
        # A fork shares the store's memory map and lengths with its parent.
        multiprocessing_context="fork" if makers else None,
        worker_init_fn=functools.partial(_end_with_parent, os.getpid()),
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),  # it draws a seed for workers, which nothing here uses
    )
    for passes, update in zip(loader, told, strict=True):
        yield update, _mapped(passes, _Array, _tensor)


@dataclass(frozen=True)
class _Array:
    """A tensor between processes, by value: one in shared memory takes an open file, of which few are allowed."""

    values: NDArray[Any]


def _to_send(passes: list[Pass]) -> list[Pass]:
    return _mapped(passes, Tensor, lambda tensor: _Array(tensor.numpy()))


def _tensor(value: Tensor | _Array) -> Tensor:
    return torch.from_numpy(value.values) if isinstance(value, _Array) else value


def _mapped(value: Any, kind: type | tuple[type, ...], change: Callable[[Any], Any]) -> Any:
    """`value` with all in it that is of `kind` changed."""
    if isinstance(value, kind):
        return change(value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _mapped(getattr(value, f.name), kind, change) for f in fields(value)})
    if isinstance(value, list | tuple):
        changed = [_mapped(item, kind, change) for item in value]
        return type(value)(*changed) if hasattr(value, "_fields") else type(value)(changed)
    return value


def _end_with_parent(parent: int, _: int) -> None:
    """The loader's own watch looks every five seconds, and not while a worker waits to hand over what it has made."""
    torch.multiprocessing._prctl_pr_set_pdeathsig(signal.SIGKILL)
    if os.getppid() != parent:  # it was gone before we asked
        os.kill(os.getpid(), signal.SIGKILL)


def _counts(lengths: NDArray[np.int32], fraction: float) -> tuple[int, int, int]:
    """Tokens, masked tokens and sequences of a batch."""
    tokens = int(lengths.sum())
    return tokens, masked_count(tokens, fraction), len(lengths)


def _dropout_seed(key: tuple[int, int, int]) -> int:
    seed, epoch, number = key
    return int(np.random.SeedSequence([seed, DROPOUT, epoch, number]).generate_state(1)[0])
