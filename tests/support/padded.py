"""A row of sequences as the padded grid that other code wants."""

import torch
from torch import Tensor

from robbertje_lib.distillation.batching import Batch

PAD = 1


def padded(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Of a batch: token ids, attention mask (1 at real tokens) and labels (-100 where nothing is predicted).

    Each is (sequences, longest) int64, padded on the right.
    """
    lengths = torch.from_numpy(batch.lengths)
    real = torch.arange(int(lengths.max())) < lengths[:, None]
    ids = torch.full(real.shape, PAD).masked_scatter(real, batch.input_ids)
    in_row = torch.full_like(batch.input_ids, -100).index_copy(0, batch.masked, batch.targets)
    return ids, real.long(), torch.full(real.shape, -100).masked_scatter(real, in_row)
