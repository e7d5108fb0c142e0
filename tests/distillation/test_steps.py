"""A step waits for nothing, equals the plain one, and once one was not finite nothing changes any more."""

import pytest
import torch
from torch import Tensor, nn
from transformers import RobertaConfig, RobertaForMaskedLM

from robbertje_lib.distillation.steps import adamw, step
from robbertje_lib.experiment.profile import Recipe
from robbertje_lib.models.shapes import decayed_parameters, random_model
from tests.support.no_waiting import NoWaiting, Waits
from tests.support.tiny_run import FAST

RECIPE = Recipe.model_validate(FAST)
CONFIG = RobertaConfig(
    vocab_size=50,
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=24,
    max_position_embeddings=20,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
)
IDS = torch.arange(4, 34).reshape(3, 10)


def _loss(model: RobertaForMaskedLM, scale: float = 1.0) -> Tensor:
    return model(IDS).logits.square().mean() * scale


def _totals(loss: Tensor) -> Tensor:
    return torch.stack([torch.tensor(30.0), loss.detach()])


def _state(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    moments = [m for p in model.parameters() for m in optimizer.state[p].values()]
    return [t.detach().clone() for t in (*model.parameters(), *moments)]


def test_a_step_waits_for_nothing() -> None:
    model = random_model(CONFIG, seed=1)
    optimizer = adamw(model, RECIPE)
    for _ in range(2):  # the first makes the moments
        loss = _loss(model)
        totals = _totals(loss)
        with NoWaiting():
            loss.backward()
            step(optimizer, totals, 1e-3, clip=1.0)


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: float(x[0]),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x.__setitem__(x > 0, 1.0),
        lambda x: x.repeat_interleave(x.long()),
    ],
)
def test_what_waits_is_found(operation) -> None:  # type: ignore[no-untyped-def]
    with NoWaiting(), pytest.raises(Waits):
        operation(torch.ones(3))


def test_a_step_is_the_plain_one() -> None:
    ours, plain = (random_model(CONFIG, seed=1) for _ in range(2))
    optimizer, (decayed, free) = adamw(ours, RECIPE), decayed_parameters(plain)
    groups = [{"params": decayed, "weight_decay": RECIPE.weight_decay}, {"params": free, "weight_decay": 0.0}]
    reference = torch.optim.AdamW(groups, betas=RECIPE.adam_betas, eps=RECIPE.adam_epsilon, fused=True)
    for rate in (1e-3, 5e-4, 2e-4):
        loss = _loss(ours)
        loss.backward()
        _loss(plain).backward()
        norm = nn.utils.clip_grad_norm_([*decayed, *free], 0.01)
        for group in reference.param_groups:
            group["lr"] = rate
        reference.step()
        reference.zero_grad()
        assert step(optimizer, _totals(loss), rate, clip=0.01).read() == [30.0, loss.item(), norm.item()]
        assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), plain.parameters(), strict=True))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nothing_changes_from_a_step_on_that_is_not_finite(value: float) -> None:
    model = random_model(CONFIG, seed=1)
    optimizer = adamw(model, RECIPE)
    read = []
    for scale in (1.0, value, 1.0):
        loss = _loss(model, scale)
        loss.backward()
        read.append(step(optimizer, _totals(loss), 1e-3, clip=1.0))
        if scale == 1.0 and len(read) == 1:
            good = _state(model, optimizer)
    assert all(torch.equal(a, b) for a, b in zip(good, _state(model, optimizer), strict=True))
    finite = [all(torch.tensor(m.read()).isfinite()) for m in read]
    assert finite == [True, False, True]
