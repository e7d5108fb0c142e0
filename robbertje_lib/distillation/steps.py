"""Optimizer steps that never ask the device how they went.

The host hands work to a GPU long before it is done; whatever the host reads of it stops that. So the device itself
leaves out a step that is not finite, and all after it, and what an update measured is read later, from a copy.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from robbertje_lib.experiment.profile import Recipe
from robbertje_lib.models.shapes import decayed_parameters


def adamw(model: PreTrainedModel, recipe: Recipe) -> torch.optim.AdamW:
    """The recipe's optimizer; once `found_inf`, a number on the model's device, is 1 it changes nothing any more."""
    decayed, free = decayed_parameters(model)
    optimizer = torch.optim.AdamW(
        [{"params": decayed}, {"params": free, "weight_decay": 0.0}],
        lr=recipe.learning_rate,
        betas=recipe.adam_betas,
        eps=recipe.adam_epsilon,
        weight_decay=recipe.weight_decay,
        fused=True,  # several times faster than one kernel a parameter, on CPU as on GPU
    )
    optimizer.found_inf = torch.zeros((), device=model.device)  # what a fused step looks at, as under a GradScaler
    return optimizer


def parameters_of(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [p for group in optimizer.param_groups for p in group["params"]]


@dataclass(frozen=True)
class Measured:
    """What an update found, on its way to the host."""

    device: torch.device
    values: Tensor  # on the host
    arrived: torch.cuda.Event | None  # None where they have

    @classmethod
    def on_device(cls, values: Tensor) -> Self:
        """Sends `values` to the host, and does not wait for them."""
        if values.device.type != "cuda":
            return cls(values.device, values.cpu(), None)
        copy = values.to("cpu", non_blocking=True)  # into pinned memory, once the device comes to it
        arrived = torch.cuda.Event()
        arrived.record()
        return cls(values.device, copy, arrived)

    def read(self) -> list[float]:
        """The values; waits until they are there."""
        if self.arrived:
            self.arrived.synchronize()
        return self.values.tolist()


def step(optimizer: torch.optim.Optimizer, totals: Tensor, rate: float, clip: float) -> Measured:
    """Clip the gradients, update at learning rate `rate`, and forget the gradients.

    totals: positions, loss and its parts. If the loss or the norm of the gradients is not finite, or those of an
    earlier update were not, weights and moments stay as they are.

    Returns the totals and the norm, on their way.
    """
    norm = nn.utils.clip_grad_norm_(parameters_of(optimizer), clip)
    values = torch.cat([totals, norm[None]])
    unsound = values.isfinite().all().logical_not_()
    torch.maximum(optimizer.found_inf, unsound, out=optimizer.found_inf)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return Measured.on_device(values)
