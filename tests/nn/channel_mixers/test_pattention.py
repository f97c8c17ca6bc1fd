"""Attention to parameter tokens is what its formula says."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from formwright.errors import UserError
from formwright.nn.channel_mixers.pattention import Pattention


def plain(layer: Pattention, x: Tensor, name: str) -> Tensor:
    """Token by token."""
    rows = []
    for token in x:
        scores = torch.stack([token @ key for key in layer.keys])
        n = len(scores)
        if name == "l2_norm_gelu":
            weights = torch.nn.functional.gelu(scores / scores.square().sum().sqrt() * math.sqrt(n))
        elif name == "gelu_l2_norm":
            active = torch.nn.functional.gelu(scores)
            weights = active / active.square().sum().sqrt() * math.sqrt(n)
        else:
            weights = scores.exp() / scores.exp().sum() * n
        rows.append(sum(weight * value for weight, value in zip(weights, layer.values, strict=True)))
    return torch.stack(rows)


@pytest.mark.parametrize("name", ["l2_norm_gelu", "gelu_l2_norm", "softmax"])
def test_value_is_that_of_the_formula(name: str) -> None:
    torch.manual_seed(0)
    layer = Pattention(6, tokens=9, normalization=name, std=0.5).double()
    layer.scale.fill_(3.0)
    x = torch.randn(4, 6, dtype=torch.float64)
    torch.testing.assert_close(layer(x), plain(layer, x, name), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["l2_norm_gelu", "gelu_l2_norm"])
def test_a_token_without_scores_gets_zeros_and_a_finite_gradient(name: str) -> None:
    layer = Pattention(6, normalization=name)
    x = torch.zeros(2, 6, requires_grad=True)
    y = layer(x)
    assert not y.any()
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert layer.keys.grad is not None
    assert layer.keys.grad.isfinite().all()


def test_as_many_parameter_tokens_as_channels_have_the_weights_of_two_dense_layers() -> None:
    assert sum(p.numel() for p in Pattention(6, tokens=6).parameters()) == 2 * 6 * 6


def test_unknown_normalizations_and_empty_tables_are_refused() -> None:
    with pytest.raises(UserError, match=r"l2_norm_gleu.*l2_norm_gelu"):
        Pattention(6, normalization="l2_norm_gleu")
    with pytest.raises(UserError, match="tokens = 0"):
        Pattention(6, tokens=0)
