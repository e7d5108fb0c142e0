"""Sequences in one row attend as they do in a padded grid, each to itself alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from robbertje_lib.models.packed_attention import SLACK_SHARE, SLACK_TOKENS, Packing, packed_attention, packing_of
from tests.support.no_waiting import NoWaiting, Waits

HEADS, SIZE = 3, 16
LENGTHS = {
    "ragged": [5, 31, 17, 4, 30, 64, 63, 2],
    "alike": [9, 8, 9, 7],
    "equal": [6, 6, 6],
    "equal, wide": [40, 40],
    "one": [7],
    "of one token": [1, 1, 3],
}


def _row(tokens: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (1, HEADS, tokens, SIZE)
    return [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for _ in range(3)]


def _attend(row: list[Tensor], packing: Packing, causal: bool = False, dropout: float = 0.0) -> Tensor:
    return packed_attention(nn.Module(), *row, None, dropout=dropout, packing=packing, is_causal=causal)[0]  # type: ignore[arg-type]


def _one_by_one(row: list[Tensor], lengths: list[int], causal: bool) -> Tensor:
    """PyTorch's attention, one sequence after the other."""
    pieces = zip(*(t.split(lengths, dim=2) for t in row), strict=True)
    outputs = [functional.scaled_dot_product_attention(*piece, is_causal=causal) for piece in pieces]
    return torch.cat(outputs, dim=2).transpose(1, 2)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_each_sequence_attends_to_itself_alone(lengths: list[int], causal: bool) -> None:
    row = _row(sum(lengths))
    ours, wanted = _attend(row, packing_of(lengths), causal), _one_by_one(row, lengths, causal)
    torch.testing.assert_close(ours, wanted, rtol=1e-5, atol=1e-6)
    upstream = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1))
    gradients = zip(torch.autograd.grad(ours, row, upstream), torch.autograd.grad(wanted, row, upstream), strict=True)
    for gradient, reference in gradients:
        # A sequence of one token has no gradient by its query, but for rounding.
        assert (gradient - reference).norm() <= 1e-5 * reference.norm() + 1e-6


@pytest.mark.parametrize("lengths", [LENGTHS["ragged"], LENGTHS["equal, wide"]])
def test_bfloat16_stays_near_float32(lengths: list[int]) -> None:
    row = _row(sum(lengths))
    rough = _row(sum(lengths), torch.bfloat16)
    wanted, ours = _attend(row, packing_of(lengths)), _attend(rough, packing_of(lengths))
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours.float(), wanted, rtol=0.05, atol=0.05)
    upstream = torch.ones_like(wanted)
    gradients = zip(
        torch.autograd.grad(ours, rough, upstream.bfloat16()), torch.autograd.grad(wanted, row, upstream), strict=True
    )
    assert all((gradient - reference).norm() <= 0.05 * reference.norm() + 0.5 for gradient, reference in gradients)


def test_dropout_hides_probabilities_and_its_gradient_is_that_of_what_was_left() -> None:
    lengths = LENGTHS["ragged"]
    row = [t.detach().double().requires_grad_() for t in _row(sum(lengths))]
    packing = packing_of(lengths)

    def attend(*row: Tensor) -> Tensor:
        torch.manual_seed(3)  # the same probabilities are hidden whenever it is asked
        return _attend(list(row), packing, dropout=0.4)

    assert not torch.allclose(attend(*row), _attend(row, packing))
    ones = [*row[:2], torch.ones_like(row[2])]
    assert float(attend(*ones).detach().mean()) == pytest.approx(1, abs=0.05)
    assert float(attend(*ones).detach().std()) > 0.1
    torch.autograd.gradcheck(attend, row, fast_mode=True, atol=1e-4)


def test_a_block_holds_sequences_of_like_length_and_each_token_one_cell() -> None:
    lengths = np.random.default_rng(0).integers(1, 200, 100)
    packing = packing_of(lengths)
    left = sorted(lengths, reverse=True)
    for block in packing.blocks:
        inside, left = left[: block.sequences], left[block.sequences :]
        assert inside[0] == block.width
        assert inside[-1] >= block.width - max(block.width // SLACK_SHARE, SLACK_TOKENS)
    assert not left
    assert packing.token_of is not None
    assert torch.equal(packing.token_of[packing.cell_of], torch.arange(lengths.sum()))
    assert len(packing.token_of) == len(packing.cell_of) + len(packing.padding)
    assert packing.starts.tolist() == [0, *np.cumsum(lengths)] and packing.width == lengths.max()
    assert packing.position_ids[0, : lengths[0]].tolist() == list(range(2, 2 + lengths[0]))
    assert packing_of([3, 2], first_position=0).position_ids.tolist() == [[0, 1, 2, 0, 1]]


def test_sequences_of_one_length_are_not_copied_about() -> None:
    packing = packing_of(LENGTHS["equal"])
    assert packing.token_of is None and len(packing.blocks) == 1 and packing.blocks[0].mask is None


def test_without_packing_it_is_plain_attention_and_honours_a_mask() -> None:
    row = _row(6)
    mask = torch.tensor([True, True, True, False, True, False])[None, None, None]
    ours = packed_attention(nn.Module(), *row, mask, scaling=SIZE**-0.5, is_causal=False)[0]  # type: ignore[arg-type]
    wanted = functional.scaled_dot_product_attention(*row, attn_mask=mask).transpose(1, 2)
    torch.testing.assert_close(ours, wanted)


@pytest.mark.parametrize("causal", [False, True])
def test_the_flash_kernel_is_asked_for_what_it_takes(causal: bool) -> None:
    """Up to the kernel itself, which only a GPU has: shapes and types of its results, and of its gradient's."""
    packing = replace(packing_of(LENGTHS["ragged"]), flash=True)
    tokens = sum(LENGTHS["ragged"])
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        row = [mode.from_tensor(t) for t in _row(tokens, torch.bfloat16)]
        output = _attend(row, packing, causal, dropout=0.1)
        assert output.shape == (1, tokens, HEADS, SIZE) and output.dtype == torch.bfloat16
        assert "FlashAttention" in str(output.grad_fn.next_functions[0][0])  # type: ignore[union-attr]
        gradients = torch.autograd.grad(output, row, torch.empty_like(output))
        assert [g.shape for g in gradients] == [(1, HEADS, tokens, SIZE)] * 3
        exact = [mode.from_tensor(t) for t in _row(tokens)]
        assert "Grid" in str(_attend(exact, packing).grad_fn.next_functions[0][0])  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "waiting",
    [
        lambda t: float(t.sum()),
        lambda t: bool(t.any()),
        lambda t: t[t > 0],
        lambda t: t.nonzero(),
        lambda t: t.masked_select(t > 0),
        lambda t: t.repeat_interleave(t.long()),
        lambda t: t.index_put((t > 0,), t[0]),
    ],
)
def test_what_waits_for_a_device_is_found(waiting: object) -> None:
    with NoWaiting(), pytest.raises(Waits):
        waiting(torch.ones(3))  # type: ignore[operator]


def test_attention_waits_for_no_device() -> None:
    row = _row(sum(LENGTHS["ragged"]))
    with NoWaiting():
        _attend(row, packing_of(LENGTHS["ragged"]), dropout=0.1).sum().backward()
    assert all(t.grad is not None for t in row)
