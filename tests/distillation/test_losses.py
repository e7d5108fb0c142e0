"""The head in blocks gives the losses and gradients of the plain one."""

import pytest
import torch
from torch.nn import functional

from robbertje_lib.distillation import losses
from robbertje_lib.distillation.losses import Head, HeadLosses, equalise, head_losses

POSITIONS, MASKED, HIDDEN, VOCABULARY = 150, 23, 12, 500


def _head(seed: int, width: int = HIDDEN) -> Head:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((POSITIONS, width), (VOCABULARY, width), (VOCABULARY,))
    return Head(*(torch.randn(shape, generator=generator).requires_grad_(seed == 0) for shape in shapes))


def _logits(head: Head) -> torch.Tensor:
    return head.features @ head.weight.T + head.bias


@pytest.fixture
def targets() -> torch.Tensor:
    return torch.randint(VOCABULARY, (MASKED,), generator=torch.Generator().manual_seed(9))


@pytest.mark.parametrize("temperature", [1.0, 2.0, 3.0])
@pytest.mark.parametrize(("block", "slab"), [(1, 1), (37, 10), (64, 8), (1000, 1000)])
def test_losses_and_gradients_are_those_of_full_logits(
    targets: torch.Tensor, temperature: float, block: int, slab: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(losses.BLOCK_ELEMENTS, "cpu", block * VOCABULARY)
    monkeypatch.setitem(losses.SLAB_ELEMENTS, "cpu", slab * VOCABULARY)
    student, teacher = _head(0), _head(1, width=20)
    plain_kl = temperature**2 * functional.kl_div(
        torch.log_softmax(_logits(student) / temperature, -1),
        torch.softmax(_logits(teacher) / temperature, -1),
        reduction="sum",
    )
    plain_mlm = functional.cross_entropy(_logits(student)[:MASKED], targets, reduction="sum")
    expected = torch.autograd.grad(0.3 * plain_kl + 0.7 * plain_mlm, list(student))
    ours = head_losses(student, targets, teacher, weight_kl=0.3, weight_mlm=0.7, temperature=temperature)
    torch.testing.assert_close(ours.kl, plain_kl.detach(), rtol=1e-5, atol=0)
    torch.testing.assert_close(ours.mlm, plain_mlm.detach(), rtol=1e-5, atol=0)
    for got, wanted in zip(torch.autograd.grad(ours.weighted, list(student)), expected, strict=True):
        assert (got - wanted).norm() <= 1e-5 * wanted.norm()


def test_without_teacher_it_is_cross_entropy() -> None:
    student = _head(0)
    targets = torch.arange(POSITIONS)
    plain = functional.cross_entropy(_logits(student), targets, reduction="sum")
    ours = head_losses(student, targets, weight_mlm=1.0)
    torch.testing.assert_close(ours.weighted, plain.detach(), rtol=1e-5, atol=0)
    for got, wanted in zip(
        torch.autograd.grad(ours.weighted, list(student)), torch.autograd.grad(plain, list(student)), strict=True
    ):
        assert (got - wanted).norm() <= 1e-5 * wanted.norm()


def test_upstream_gradient_scales_the_gradient(targets: torch.Tensor) -> None:
    student, teacher = _head(0), _head(1)

    def loss() -> HeadLosses:
        return head_losses(student, targets, teacher, weight_kl=1.0)

    once = torch.autograd.grad(loss().weighted, list(student))
    thrice = torch.autograd.grad(3 * loss().weighted, list(student))
    for one, three in zip(once, thrice, strict=True):
        torch.testing.assert_close(3 * one, three)


def test_a_student_that_equals_its_teacher_has_no_kl_left(targets: torch.Tensor) -> None:
    student = _head(0)
    ours = head_losses(student, targets, Head(*(t.detach() for t in student)), weight_kl=1.0, weight_mlm=0.0)
    assert abs(float(ours.kl)) < 1e-4
    assert all(float(g.abs().max()) < 1e-4 for g in torch.autograd.grad(ours.weighted, list(student)))


def test_bfloat16_products_stay_near_float32(targets: torch.Tensor) -> None:
    student, teacher = _head(0), _head(1)
    exact = head_losses(student, targets, teacher, weight_kl=1.0)
    with torch.autocast("cpu", torch.bfloat16):
        rough = head_losses(student, targets, teacher, weight_kl=1.0)
    assert rough.weighted.dtype == torch.float32
    torch.testing.assert_close(rough.weighted, exact.weighted, rtol=0.02, atol=0)


def test_equal_pairs_average_the_teachers_logits(targets: torch.Tensor) -> None:
    """FairDistillation: afterwards both tokens of a pair have the same teacher probability; no other pair does."""
    pairs = torch.tensor([[3, 8], [100, 20]])
    teacher, student = _head(1), _head(0)
    logits = equalise(_logits(teacher).clone(), pairs)
    assert torch.equal(logits[:, 3], logits[:, 8]) and torch.equal(logits[:, 100], logits[:, 20])
    torch.testing.assert_close(logits[:, 3], _logits(teacher)[:, [3, 8]].mean(-1))
    others = [v for v in range(VOCABULARY) if v not in (3, 8, 100, 20)]
    assert torch.equal(logits[:, others], _logits(teacher)[:, others])
    plain = 4 * functional.kl_div(
        torch.log_softmax(_logits(student) / 2, -1), torch.softmax(logits / 2, -1), reduction="sum"
    )
    ours = head_losses(student, targets, teacher, weight_kl=1.0, temperature=2.0, equal_pairs=pairs)
    torch.testing.assert_close(ours.kl, plain.detach(), rtol=1e-5, atol=0)
