"""Held-out lines with fixed masks, so that losses of all models and moments compare."""

import math
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from robbertje_lib.distillation.batching import Batch, Masking, Plan, TokenStore, make_batch, masked_one_by_one
from robbertje_lib.distillation.losses import head_losses, head_of
from robbertje_lib.models.devices import Precision
from robbertje_lib.models.shapes import hidden_states

LOSS_TOKENS = 30_000
PSEUDO_PERPLEXITY_TOKENS = 1_000
BATCH_POSITIONS = 2048  # the same for teacher and students: masks are drawn a batch at a time


class HeldOut:
    """Lines for the loss, and a few of them for the pseudo-perplexity."""

    def __init__(self, folder: Path, tokenizer: PreTrainedTokenizerFast, seed: int) -> None:
        """Draw lines of the store `folder` until they hold LOSS_TOKENS, and mask 15% of their tokens uniformly.

        The first of them, of PSEUDO_PERPLEXITY_TOKENS in all, are also read once per token, with just that one masked.
        """
        store = TokenStore(folder, minimum_tokens=4)
        order = np.random.default_rng(seed).permutation(store.rows)
        ends = np.cumsum(store.lengths[order])
        few, store.rows = (
            order[: int(np.searchsorted(ends, tokens)) + 1] for tokens in (PSEUDO_PERPLEXITY_TOKENS, LOSS_TOKENS)
        )
        masking = Masking(tokenizer, fraction=0.15)
        batches = Plan(store, "tokens", BATCH_POSITIONS, seed).epoch(0)
        self.batches = [make_batch(store, rows, masking, (seed, 0, i)) for i, rows in enumerate(batches)]
        self.one_by_one = masked_one_by_one(store, few, tokenizer, BATCH_POSITIONS)

    def loss(self, model: PreTrainedModel, precision: Precision) -> float:
        """Masked-LM loss, nats per masked token."""
        return _mean_loss(self.batches, model, precision)

    def pseudo_perplexity(self, model: PreTrainedModel, precision: Precision) -> float:
        """Salazar's, over all tokens of the few lines; an estimate to watch, `40_pseudo_perplexity` measures it."""
        return math.exp(_mean_loss(self.one_by_one, model, precision))


@torch.no_grad()
def _mean_loss(batches: list[Batch], model: PreTrainedModel, precision: Precision) -> float:
    losses, device, training = [], model.device, model.training
    model.eval()
    for batch in (b.to(device) for b in batches):
        with precision.autocast(device):
            hidden = hidden_states(model, batch.input_ids, batch.packing).index_select(0, batch.masked)
            losses.append(head_losses(head_of(model, hidden), batch.targets).mlm)
    model.train(training)
    total = float(torch.stack(losses).sum(dtype=torch.float64))  # read once, when all is under way
    return total / sum(len(b.targets) for b in batches)
