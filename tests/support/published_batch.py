"""Padded batches as the published code has them, independent of how the library lays out a pass."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

PAD, NOT_PREDICTED = 1, -100


class Padded(NamedTuple):
    """Sequences padded on the right: (sequences, length) each."""

    input_ids: Tensor  # masked
    attention_mask: Tensor  # 1 at real tokens
    labels: Tensor  # what stood at masked positions, else NOT_PREDICTED

    def to(self, device: str) -> "Padded":
        return Padded(*(tensor.to(device) for tensor in self))


def padded(tokens: Tensor, labels: Tensor, lengths: Sequence[int]) -> Padded:
    """tokens, labels: (real tokens,) of sequences of these `lengths`, one after the other."""

    def grid(values: Sequence[Tensor], fill: int) -> Tensor:
        return torch.nn.utils.rnn.pad_sequence(list(values), batch_first=True, padding_value=fill)

    real = torch.ones_like(tokens)
    return Padded(
        grid(tokens.split(list(lengths)), PAD),
        grid(real.split(list(lengths)), 0),
        grid(labels.split(list(lengths)), NOT_PREDICTED),
    )
