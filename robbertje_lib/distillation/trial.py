"""Which number type trains a model faster on the machine at hand: its own first passes, tried in both.

Nothing of a trial stays: weights are not updated, and random state, gradients and the order of the data are as before.
"""

from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path

import torch
from accelerate.utils import broadcast_object_list
from transformers import PreTrainedModel

from robbertje_lib.distillation.job import Job, Objective, TrainingState
from robbertje_lib.distillation.updates import PASS_POSITIONS, PassMaker, planned_updates
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
                team.device,
                job.recipe.precision,
                lambda precision: _updates(model, objective_in(precision), job, precision),
                kept,
            )
    if team.num_processes > 1:
        broadcast_object_list(chosen)
    assert chosen[0] is not None
    return chosen[0]


def _updates(model: PreTrainedModel, objective: Objective, job: Job, precision: Precision) -> Iterator[None]:
    """With each `next` the forward and backward pass of one pass of the first updates, without a step."""
    device = processes().device
    ready_for(model, device).train()
    at_once = max(1, job.recipe.update_size // job.recipe.batch_size)
    maker = PassMaker(job, 0, 1, PASS_POSITIONS[device.type])
    planned = planned_updates(job, objective, TrainingState(), at_once)
    passes = ((update.phase, one) for update in planned for one in maker[update])
    for phase, one in cycle(list(islice(passes, PASSES))):
        batch, counts = one.on(device)
        with precision.autocast(device):
            loss = objective(model, batch, counts, phase)["loss"]
        loss.backward()
        model.zero_grad(set_to_none=True)
        yield
