"""Reordered weights give the same products, and leave the model as it was."""

import pytest
import torch
from torch import nn

from robbertje_lib.models import cpu_kernels
from robbertje_lib.models.cpu_kernels import packed_weights


@pytest.mark.skipif(not cpu_kernels.kernels_available(), reason="this PyTorch has no oneDNN")
@pytest.mark.parametrize("bias", [True, False])
def test_products_agree(bias: bool) -> None:
    layer = nn.Linear(33, 70, bias=bias)
    inputs = torch.randn(4, 5, 33, generator=torch.Generator().manual_seed(0))
    plain = layer(inputs)
    with packed_weights(layer):
        packed = layer(inputs.transpose(0, 1)).transpose(0, 1)
    torch.testing.assert_close(packed, plain, atol=1e-6, rtol=1e-5)


def test_the_model_is_restored_even_after_an_error() -> None:
    model = nn.Sequential(nn.Linear(3, 3))
    with pytest.raises(ZeroDivisionError), packed_weights(model):
        assert ("forward" in model[0].__dict__) == cpu_kernels.kernels_available()
        raise ZeroDivisionError
    assert "forward" not in model[0].__dict__


def test_other_types_are_left_alone() -> None:
    layer = nn.Linear(3, 3).bfloat16()
    with packed_weights(layer):
        assert "forward" not in layer.__dict__
