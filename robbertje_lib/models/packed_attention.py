"""Attention over sequences that lie one behind the other in a single row, each seeing itself alone.

Nothing is padded: a pass computes real tokens only. On a GPU (Ampere or later), half-precision attention is one flash
kernel that is told where sequences begin (Dao 2023, arXiv 2307.08691). Elsewhere, and in float32, sequences of like
length are copied to a padded grid for the few products of attention, and their results back to the row.

A model that runs with `PACKED` finds the layout in the keyword `packing`; without it, it attends as `sdpa` does.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

PACKED = "packed"  # the attention implementation's name
ROBERTA_FIRST_POSITION = 2  # RoBERTa counts positions from pad_token_id + 1
# A block of the grid holds sequences that fall short of its width by a quarter, or by 8 tokens, at most.
SLACK_SHARE, SLACK_TOKENS = 4, 8
LONG = 128  # tokens from which the products of attention are worth a faster type on a CPU


@dataclass(frozen=True)
class Block:
    """Sequences of like length: (sequences, width) cells of the grid."""

    sequences: int
    width: int
    mask: Tensor | None  # (sequences, 1, 1, width) float32: -inf at padding; None where there is none


@dataclass(frozen=True)
class Packing:
    """Where the sequences of a row of tokens lie; made by `packing_of`."""

    starts: Tensor  # (sequences + 1,) int32: where each begins, and at last where the row ends
    width: int  # tokens of the longest
    position_ids: Tensor  # (1, tokens) int64, counted within each sequence
    blocks: tuple[Block, ...]  # of the grid; its cells are numbered through all of them
    token_of: Tensor | None  # (cells,) int64: whose copy a cell holds; None where the grid is the row itself
    cell_of: Tensor  # (tokens,) int64
    padding: Tensor  # (padded cells,) int64
    filler: int = 0  # tokens at the end of the row that stand for nothing
    flash: bool = False  # whether the device has the kernel; asked in `to`, for a compiled layer cannot ask

    def to(self, device: torch.device) -> "Packing":
        """The layout on `device`; from pinned memory, without waiting, if that is a GPU."""
        if device.type == "cpu":
            return self
        blocks = tuple(replace(b, mask=None if b.mask is None else sent(b.mask, device)) for b in self.blocks)
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        tensors = {name: sent(value, device) for name, value in values.items() if isinstance(value, Tensor)}
        flash = (
            device.type == "cuda"
            and torch.backends.cuda.is_flash_attention_available()
            and torch.cuda.get_device_capability(device) >= (8, 0)
        )
        return replace(self, blocks=blocks, flash=flash, **tensors)


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor` on `device`; from pinned memory, without waiting, if that is a GPU."""
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


def packing_of(lengths: ArrayLike, first_position: int = ROBERTA_FIRST_POSITION, multiple: int = 1) -> Packing:
    """The layout of sequences of these `lengths` (sequences,), one behind the other, in this order.

    The row is filled up to a multiple of `multiple` tokens by one more sequence, all at the first position.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-lengths, kind="stable")
    alike = list(_alike(order, lengths))
    if filler := -int(lengths.sum()) % multiple:
        alike.append(np.array([len(lengths)]))
        lengths = np.append(lengths, filler)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    within = np.arange(starts[-1]) - np.repeat(starts[:-1], lengths)
    if filler:
        within[-filler:] = 0
    blocks, copied, padded, cells = [], [], [], np.empty(starts[-1], dtype=np.int64)
    first_cell = 0
    for members in alike:
        width = int(lengths[members[0]])
        column, ends = np.arange(width), lengths[members][:, None]
        real = column < ends
        token = starts[members][:, None] + np.minimum(column, ends - 1)
        number = first_cell + np.arange(token.size).reshape(token.shape)
        cells[token[real]] = number[real]
        copied.append(token.ravel())
        padded.append(number[~real])
        mask = None if real.all() else np.where(real, np.float32(0), np.float32(-np.inf))[:, None, None]
        blocks.append(Block(len(members), width, None if mask is None else torch.from_numpy(mask)))
        first_cell += token.size
    token_of = np.concatenate(copied)
    in_place = np.array_equal(token_of, np.arange(starts[-1]))
    return Packing(
        torch.from_numpy(starts.astype(np.int32)),
        int(lengths.max()),
        torch.from_numpy(within + first_position)[None],
        tuple(blocks),
        None if in_place else torch.from_numpy(token_of),
        torch.from_numpy(cells),
        torch.from_numpy(np.concatenate(padded)),
        filler,
    )


def _alike(order: NDArray[np.int64], lengths: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """The members of each block: sequences from the longest on, until one falls short of the first by too much."""
    shorter, at = -lengths[order], 0
    while at < len(order):
        width = -int(shorter[at])
        least = width - max(width // SLACK_SHARE, SLACK_TOKENS)
        end = int(np.searchsorted(shorter, -least, side="right"))
        yield order[at:end]
        at = end


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    packing: Packing | None = None,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """What transformers calls in each layer: query, key and value (1, heads, tokens, size of a head).

    Returns (1, tokens, heads, size of a head). `dropout` is that of attention probabilities; with `is_causal` each
    token sees itself and what precedes it in its sequence.
    """
    if packing is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, is_causal=is_causal, **kwargs
        )
    # Squeezed, not indexed: the gradient of an index is a copy into zeros.
    rows = [t.squeeze(0).transpose(0, 1) for t in (query, key, value)]
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    half = query.dtype in (torch.bfloat16, torch.float16)
    fits = packing.flash and half and query.shape[-1] % 8 == 0 and query.shape[-1] <= 256  # what the kernel takes
    attend = _flash if fits else _on_grid
    return attend(rows[0], rows[1], rows[2], packing, scale, dropout, bool(is_causal)).unsqueeze(0), None


def _flash(
    query: Tensor, key: Tensor, value: Tensor, packing: Packing, scale: float, dropout: float, causal: bool
) -> Tensor:
    # `torch.nn.attention.varlen` calls the same kernel, but without dropout.
    starts, width = packing.starts, packing.width
    return torch.ops.aten._flash_attention_forward(
        query, key, value, starts, starts, width, width, dropout, causal, False, scale=scale
    )[0]


@torch.compiler.disable  # a graph would hold for one list of blocks only
def _on_grid(
    query: Tensor, key: Tensor, value: Tensor, packing: Packing, scale: float, dropout: float, causal: bool
) -> Tensor:
    return _GridAttention.apply(query, key, value, packing, scale, dropout, causal)


class _GridAttention(torch.autograd.Function):
    """softmax(scale q k^T + mask) v of each block, on rows (tokens, heads, size).

    Its own gradient, since autograd's would add where this one only copies: each token has one cell."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        packing: Packing,
        scale: float,
        dropout: float,
        causal: bool,
    ) -> Tensor:
        outputs, saved = [], []
        dtype = _grid_type(query, packing)
        with torch.autocast(query.device.type, enabled=False):
            blocks = (_to_grid(row.to(dtype), packing) for row in (query, key, value))
            for block, q, k, v in zip(packing.blocks, *blocks, strict=True):
                probabilities = torch.softmax(_scores(block, q, k.transpose(1, 2), scale, causal), dim=-1)
                dropped, kept = probabilities, None
                if dropout:
                    dropped, kept = torch.native_dropout(probabilities, dropout, True)
                outputs.append(torch.bmm(dropped, v))
                saved += [q, k, v, probabilities, dropped, kept]
            ctx.save_for_backward(*saved)
            ctx.packing, ctx.scale, ctx.dropout, ctx.dtype = packing, scale, dropout, dtype
            return _to_row(outputs, packing, query.shape).to(query.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        saved, packing = ctx.saved_tensors, ctx.packing
        gradients: tuple[list[Tensor], ...] = ([], [], [])
        for number, from_above in enumerate(_to_grid(upstream.to(ctx.dtype), packing, empty_padding=True)):
            q, k, v, probabilities, dropped, kept = saved[6 * number : 6 * number + 6]
            by_probabilities = torch.bmm(from_above, v.transpose(1, 2))
            if kept is not None:
                by_probabilities = torch.ops.aten.native_dropout_backward(by_probabilities, kept, 1 / (1 - ctx.dropout))
            by_scores = torch.ops.aten._softmax_backward_data(by_probabilities, probabilities, -1, q.dtype)
            gradients[0].append(_product(by_scores, k, ctx.scale))
            gradients[1].append(_product(by_scores.transpose(1, 2), q, ctx.scale))
            gradients[2].append(torch.bmm(dropped.transpose(1, 2), from_above))
        rows = (_to_row(gradient, packing, upstream.shape).to(upstream.dtype) for gradient in gradients)
        return *rows, None, None, None, None


def _grid_type(row: Tensor, packing: Packing) -> torch.dtype:
    """float32 for short lines on a CPU, whose products in bfloat16 are compiled anew for each of their many shapes."""
    rough = row.device.type == "cpu" and row.dtype is torch.bfloat16 and packing.width < LONG
    return torch.float32 if rough else row.dtype


def _scores(block: Block, query: Tensor, key: Tensor, scale: float, causal: bool) -> Tensor:
    """scale * query key, -inf where a token must not look: (sequences * heads, width, width)."""
    if causal:  # padding lies behind all that is real, so that nothing real sees it
        future = query.new_full((block.width, block.width), -torch.inf).triu_(1)
        return torch.baddbmm(future, query, key, alpha=scale)
    if block.mask is None:
        return _product(query, key, scale)
    heads = len(query) // block.sequences
    mask = block.mask.to(query.dtype).expand(-1, heads, block.width, -1)
    scores = mask.clone(memory_format=torch.contiguous_format).flatten(0, 1)
    return scores.baddbmm_(query, key, alpha=scale)


def _product(a: Tensor, b: Tensor, scale: float) -> Tensor:
    """scale * a b, in one go: (n, rows, columns)."""
    return a.new_empty(len(a), a.shape[1], b.shape[2]).baddbmm_(a, b, beta=0, alpha=scale)


def _to_grid(row: Tensor, packing: Packing, empty_padding: bool = False) -> list[Tensor]:
    """A row (tokens, heads, size) in blocks (sequences * heads, width, size); padding holds copies, or zeros."""
    grid = row if packing.token_of is None else row.index_select(0, packing.token_of)
    if empty_padding and len(packing.padding):
        grid.index_fill_(0, packing.padding, 0)
    parts = grid.split([b.sequences * b.width for b in packing.blocks])
    return [
        part.view(block.sequences, block.width, *row.shape[1:]).transpose(1, 2).flatten(0, 1)
        for block, part in zip(packing.blocks, parts, strict=True)
    ]


def _to_row(grids: list[Tensor], packing: Packing, shape: torch.Size) -> Tensor:
    """The inverse of `_to_grid`: (tokens, heads, size), padding left out."""
    heads = shape[1]
    parts = [
        grid.view(block.sequences, heads, block.width, -1).transpose(1, 2).flatten(0, 1)
        for block, grid in zip(packing.blocks, grids, strict=True)
    ]
    grid = parts[0] if len(parts) == 1 else torch.cat(parts)
    return grid if packing.token_of is None else grid.index_select(0, packing.cell_of)


AttentionInterface.register(PACKED, packed_attention)
AttentionMaskInterface.register(PACKED, sdpa_mask)
