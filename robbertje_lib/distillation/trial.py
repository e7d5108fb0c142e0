"""Which number type trains a model faster on the machine at hand: its own first passes, tried in both.

Nothing of a trial stays: weights are not updated, and random state, gradients and the order of the data are as before.
"""

from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch
from accelerate.utils import broadcast_object_list
from transformers import PreTrainedModel

from robbertje_lib.distillation.batching import Batch, join, make_batch, masked_count, pack
from robbertje_lib.distillation.job import Job, Objective, UpdateCounts
from robbertje_lib.distillation.training import PASS_POSITIONS
from robbertje_lib.models.devices import Precision, choose_precision, processes
from robbertje_lib.models.shapes import ready_for

PASSES = 8  # in turn, so that lengths differ as in training


def tried_precision(
    model: PreTrainedModel, objective_in: Callable[[Precision], Objective], job: Job, kept: Path
) -> Precision:
    """The precision to train `model` in, by `choose_precision`; the main process chooses, and tells the others.

    objective_in: the objective, made ready for a precision. Of `job` the precision does not count.
    """
    team = processes()
    chosen: list[Precision | None] = [None]
    if team.is_main_process:
        with torch.random.fork_rng(devices=[team.device] if team.device.type == "cuda" else []):
            chosen[0] = choose_precision(
                team.device, lambda precision: _updates(model, objective_in(precision), job, precision), kept,
                job.recipe.precision,
            )  # fmt: skip
    if team.num_processes > 1:
        broadcast_object_list(chosen)
    assert chosen[0] is not None
    return chosen[0]


def _updates(model: PreTrainedModel, objective: Objective, job: Job, precision: Precision) -> Iterator[None]:
    """With each `next` a forward and backward pass, without a step."""
    device = processes().device
    ready_for(model, device).train()
    phase = objective.phase(1.0)
    for batch, counts in cycle(list(islice(_passes(job, phase), PASSES))):
        with precision.autocast(device):
            loss = objective(model, batch.to(device), counts, phase)["loss"]
        loss.backward()
        model.zero_grad(set_to_none=True)
        yield


def _passes(job: Job, phase: str) -> Iterator[tuple[Batch, UpdateCounts]]:
    """The passes of the first updates, in training's own sizes."""
    plan, budget = job.plan, PASS_POSITIONS[processes().device.type]
    batches, at_once = plan.epoch(0), max(1, job.recipe.update_size // job.recipe.batch_size)
    for first in range(0, len(batches), at_once):
        update = batches[first : first + at_once]
        for members in pack(update, plan.store.lengths, budget):
            masking = None if phase == "causal" else job.masking
            parts = [make_batch(plan.store, update[i], masking, (plan.seed, 0, first + i)) for i in members]
            counts = [(b.tokens, masked_count(b.tokens, job.masking.fraction), len(b.rows)) for b in parts]
            yield join(parts), UpdateCounts(*torch.tensor(np.array(counts, dtype=np.float32)).T)
