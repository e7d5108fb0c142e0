"""Losses of a language-model head, computed so that the logits of a whole batch never exist.

A chunk of positions at a time, logits are made, turned into loss and gradient, and forgotten. The teacher's
logits live and die with the student's. The gradient is worked out in the forward pass, where the softmax is
at hand, so nothing is computed twice: four matrix products a chunk, the fewest possible. Matrix products run
in the autocast type; softmax, loss and the accumulation of gradients in float32.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_ELEMENTS = {"cpu": 2**22, "cuda": 2**28}  # logits held at a time


class Head(NamedTuple):
    """What a decoder needs: features (positions, hidden), weight (vocabulary, hidden), bias (vocabulary,)."""

    features: Tensor
    weight: Tensor
    bias: Tensor


class HeadLosses(NamedTuple):
    """`weighted` carries the gradient; `kl` and `mlm` are sums over positions in nats, for reading only."""

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
    equal_pairs: Tensor | None = None,
) -> HeadLosses:
    """KL to the teacher at every position, cross-entropy at the first `len(targets)` of them (all, without teacher).

    The KL term is that of Hinton et al. 2015 as DistilBERT's code has it: T^2 sum_i p_i (log p_i - log q_i)
    with p, q = softmax(logits / T). `equal_pairs` (pairs, 2): token ids whose teacher logits are averaged
    first (FairDistillation, arXiv 2207.04546).
    """
    device = student.features.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else student.features.dtype
    options = _Options(dtype, weight_kl, weight_mlm, temperature if teacher else 1.0, equal_pairs)
    with torch.autocast(device, enabled=False):
        return HeadLosses(*_FusedHead.apply(*student, targets, teacher, options))


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
        options: _Options,
    ) -> tuple[Tensor, Tensor, Tensor]:
        learn = any(ctx.needs_input_grad)
        dtype, temperature = options.dtype, options.temperature
        # Scaling the features instead of the logits by 1/T saves passes over the larger matrix.
        x, w, b = features.to(dtype), weight.to(dtype), (bias / temperature).to(dtype)
        if teacher:
            teacher_x, teacher_w = teacher.features.to(dtype), teacher.weight.to(dtype)
            teacher_b = (teacher.bias / temperature).to(dtype)
        rows = max(16, CHUNK_ELEMENTS.get(features.device.type, 2**22) // len(w))
        kl, mlm = features.new_zeros(2, dtype=torch.float64 if features.device.type == "cpu" else torch.float32)
        grad_x = torch.empty_like(x) if learn else x
        grad_w = grad_b = None
        for start in range(0, len(x), rows):
            part = slice(start, min(start + rows, len(x)))
            scaled = torch.addmm(b, x[part] / temperature, w.T).float()
            log_q = torch.log_softmax(scaled, dim=-1)
            gradient: Tensor | None = None
            if teacher:
                teacher_scaled = torch.addmm(teacher_b, teacher_x[part] / temperature, teacher_w.T).float()
                if options.equal_pairs is not None:
                    teacher_scaled = equalise(teacher_scaled, options.equal_pairs)
                log_p = torch.log_softmax(teacher_scaled, dim=-1)
                p = log_p.exp()
                # The difference first: near the end of training it is far smaller than either term.
                kl += temperature**2 * torch.linalg.vecdot(p, log_p.sub_(log_q)).sum()
                if learn:  # d(T^2 KL)/d(logits) = T (q - p)
                    gradient = log_q.exp().sub_(p).mul_(temperature * options.weight_kl)
            aim = targets[part]  # empty beyond the positions with a target
            if len(aim):
                log_r = (
                    log_q[: len(aim)] if temperature == 1 else torch.log_softmax(scaled[: len(aim)] * temperature, -1)
                )
                mlm -= log_r.gather(1, aim[:, None]).sum()
                if learn:  # d(-log r_target)/d(logits) = r - 1(target)
                    own = log_r.exp()
                    own.scatter_add_(1, aim[:, None], own.new_full((len(aim), 1), -1.0))
                    if gradient is None:
                        gradient = own.mul_(options.weight_mlm)
                    else:
                        gradient[: len(aim)].add_(own, alpha=options.weight_mlm)
            if learn and gradient is not None:
                low = gradient.to(dtype)
                grad_x[part] = torch.mm(low, w)
                step_w, step_b = torch.mm(low.T, x[part]), gradient.sum(0)
                grad_w = step_w.float() if grad_w is None else grad_w.add_(step_w)
                grad_b = step_b if grad_b is None else grad_b.add_(step_b)
        ctx.gradients = (grad_x, grad_w, grad_b)
        ctx.dtypes = (features.dtype, weight.dtype, bias.dtype)
        kl, mlm = kl.float(), mlm.float()
        ctx.mark_non_differentiable(kl, mlm)
        return options.weight_kl * kl + options.weight_mlm * mlm, kl, mlm

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        gradients = [g.mul_(upstream).to(dtype) for g, dtype in zip(ctx.gradients, ctx.dtypes, strict=True)]
        return *gradients, None, None, None


def equalise(logits: Tensor, pairs: Tensor) -> Tensor:
    """Logits (positions, vocabulary) with each of the `pairs` (pairs, 2) set to its mean, in place."""
    logits[:, pairs] = logits[:, pairs].mean(dim=-1, keepdim=True).expand(-1, -1, 2)
    return logits
