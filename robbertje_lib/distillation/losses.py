"""Losses of a language-model head, computed so that the logits of a whole batch never exist.

A block of positions at a time, logits are made, turned into loss and gradient, and forgotten. The teacher's
logits live and die with the student's. The gradient is worked out in the forward pass, where the softmax is
at hand, so nothing is computed twice: four matrix products a block, the fewest possible. Matrix products run
in the autocast type; softmax, loss and the accumulation of gradients in float32.
"""

from collections import defaultdict
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from transformers import PreTrainedModel

from robbertje_lib.models.shapes import decoder, head_features

# Logits held at a time: for the matrix products, and for the passes in float32 (on a CPU, what its cache holds).
BLOCK_ELEMENTS = defaultdict(lambda: 2**28, cpu=2**25)
SLAB_ELEMENTS = defaultdict(lambda: 2**26, cpu=2**19)


class Head(NamedTuple):
    """What a decoder needs: features (positions, hidden), weight (vocabulary, hidden), bias (vocabulary,)."""

    features: Tensor
    weight: Tensor
    bias: Tensor


def head_of(model: PreTrainedModel, hidden: Tensor) -> Head:
    """The head of `model` on hidden states (positions, hidden)."""
    return Head(head_features(model, hidden), *decoder(model))


class HeadLosses(NamedTuple):
    """`weighted` carries the gradient; `kl` and `mlm` are sums over positions times their shares, for reading only."""

    weighted: Tensor  # weight_kl * kl + weight_mlm * mlm
    kl: Tensor  # T^2 KL(teacher || student) at temperature T
    mlm: Tensor  # -log p(target)


def head_losses(
    student: Head,
    targets: Tensor,
    teacher: Head | None = None,
    *,
    weight_kl: float = 0.0,
    weight_mlm: float = 1.0,
    temperature: float = 1.0,
    kl_shares: Tensor | None = None,
    mlm_shares: Tensor | None = None,
    equal_pairs: Tensor | None = None,
) -> HeadLosses:
    """KL to the teacher at every position, cross-entropy at the first `len(targets)` of them (all, without teacher).

    `kl_shares` (positions,) and `mlm_shares` (len(targets),) weigh each position in its sum, in nats; None is 1 each.

    The KL term is that of Hinton et al. 2015 as DistilBERT's code has it: T^2 sum_i p_i (log p_i - log q_i)
    with p, q = softmax(logits / T). `equal_pairs` (pairs, 2): token ids whose teacher logits are averaged
    first (FairDistillation, arXiv 2207.04546).
    """
    device = student.features.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else student.features.dtype
    options = _Options(dtype, weight_kl, weight_mlm, temperature if teacher else 1.0, equal_pairs)
    ones = student.features.new_ones(len(student.features), dtype=torch.float32)
    shares = (ones if kl_shares is None else kl_shares, ones[: len(targets)] if mlm_shares is None else mlm_shares)
    with torch.autocast(device, enabled=False):
        return HeadLosses(*_FusedHead.apply(*student, targets, teacher, shares, options))


class _Options(NamedTuple):
    dtype: torch.dtype  # of the matrix products
    weight_kl: float
    weight_mlm: float
    temperature: float
    equal_pairs: Tensor | None


class _FusedHead(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor,
        targets: Tensor,
        teacher: Head | None,
        shares: tuple[Tensor, Tensor],
        options: _Options,
    ) -> tuple[Tensor, Tensor, Tensor]:
        learn = any(ctx.needs_input_grad)
        own, aim = _prepared(Head(features, weight, bias), options), teacher and _prepared(teacher, options)
        x, vocabulary, device = features.to(options.dtype), len(weight), features.device.type
        block, slab = (max(1, elements[device] // vocabulary) for elements in (BLOCK_ELEMENTS, SLAB_ELEMENTS))
        sums = features.new_zeros(2, dtype=torch.float64 if device == "cpu" else torch.float32)
        grad_x = torch.empty_like(x)
        grad_w = torch.zeros(0, device=features.device)
        grad_b = torch.zeros_like(bias, dtype=torch.float32)
        for start in range(0, len(x), block):
            part = slice(start, start + block)
            logits = torch.addmm(own.bias, own.features[part], own.weight.T)
            teacher_logits = torch.addmm(aim.bias, aim.features[part], aim.weight.T) if aim else None
            for first in range(0, len(logits), slab):
                few = slice(first, first + slab)
                these = slice(start + first, min(start + first + slab, start + len(logits)))
                gradient = _slab(
                    logits[few].float(),
                    None if teacher_logits is None else teacher_logits[few].float(),
                    targets[these],
                    (shares[0][these, None], shares[1][these, None]),
                    options,
                    sums,
                    learn,
                )
                if gradient is not None:
                    logits[few] = gradient  # from here on the gradient lies where the logits were
                    grad_b += gradient.sum(0)
            if learn:
                torch.mm(logits, own.weight, out=grad_x[part])
                step = torch.mm(logits.T, x[part])
                grad_w = grad_w.add_(step) if start else step.float()
        ctx.gradients = (grad_x, grad_w, grad_b)
        ctx.dtypes = (features.dtype, weight.dtype, bias.dtype)
        kl, mlm = sums.float()
        ctx.mark_non_differentiable(kl, mlm)
        return options.weight_kl * kl + options.weight_mlm * mlm, kl, mlm

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        gradients = [g.mul_(upstream).to(dtype) for g, dtype in zip(ctx.gradients, ctx.dtypes, strict=True)]
        return *gradients, None, None, None, None


def _prepared(head: Head, options: _Options) -> Head:
    """The head in the type of the products, made so that its logits come out divided by the temperature."""
    features, weight, bias = head
    return Head(
        (features / options.temperature).to(options.dtype),
        weight.to(options.dtype),
        (bias / options.temperature).to(options.dtype),
    )


def _slab(
    scaled: Tensor,
    teacher_scaled: Tensor | None,
    targets: Tensor,
    shares: tuple[Tensor, Tensor],
    options: _Options,
    sums: Tensor,
    learn: bool,
) -> Tensor | None:
    """Adds the KL and MLM of a few positions to `sums`; their weighted gradient by the logits, if it is to `learn`.

    `scaled` and `teacher_scaled` (positions, vocabulary) are logits divided by the temperature, in float32;
    `shares` are two columns: (positions, 1) and (targets, 1).
    """
    temperature, few = options.temperature, len(targets)
    kl_shares, mlm_shares = shares
    gradient = None
    if teacher_scaled is not None:
        if options.equal_pairs is not None:
            teacher_scaled = equalise(teacher_scaled, options.equal_pairs)
        q, log_total = _softmax(scaled)
        p, teacher_log_total = _softmax(teacher_scaled)
        # The difference first: near the end of training it is far smaller than either term.
        log_ratio = teacher_scaled.sub_(scaled).sub_(teacher_log_total - log_total)
        sums[0] += temperature**2 * (torch.linalg.vecdot(p, log_ratio) * kl_shares[:, 0]).sum()
        if learn:  # d(T^2 KL)/d(logits) = T (q - p)
            gradient = q.sub_(p).mul_(temperature * options.weight_kl * kl_shares)
    if few:
        own = scaled[:few] if temperature == 1 else scaled[:few] * temperature
        r, log_total = _softmax(own)
        aims = targets[:, None]
        sums[1] -= ((own.gather(1, aims) - log_total) * mlm_shares).sum()
        if learn:  # d(-log r_target)/d(logits) = r - 1(target)
            wrong = r.scatter_add_(1, aims, r.new_full(aims.shape, -1.0))
            wrong.mul_(options.weight_mlm * mlm_shares)
            if gradient is None:
                return wrong
            gradient[:few] += wrong
    return gradient


def _softmax(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities (positions, vocabulary), and the log of the sum of exponentials (positions, 1).

    The largest probability is no less than 1 / vocabulary, so its logarithm is exact. `log_softmax` and then `exp`
    take up to three times as long.
    """
    probabilities = torch.softmax(logits, dim=-1)
    log_largest = probabilities.amax(-1, keepdim=True).log_()
    return probabilities, logits.amax(-1, keepdim=True) - log_largest


def equalise(logits: Tensor, pairs: Tensor) -> Tensor:
    """Logits (positions, vocabulary) with each of the `pairs` (pairs, 2) set to its mean, in place."""
    logits[:, pairs] = logits[:, pairs].mean(dim=-1, keepdim=True).expand(-1, -1, 2)
    return logits
