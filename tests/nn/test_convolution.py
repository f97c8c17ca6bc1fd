"""Pairs of a layer and a batch norm."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from formwright.nn.convolution import ConvNorm, LinearNorm, fold_into_next


def randomise(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape) + (0.5 if name.endswith(("var", "weight")) else -0.5))
    return module.double().eval()


@pytest.mark.parametrize(
    ("pair", "shape"),
    [
        (ConvNorm(4, 6, 3, stride=2), (2, 4, 7, 5)),
        (ConvNorm(4, 4, 3, groups=4, bias=True), (2, 4, 7, 5)),
        (ConvNorm(4, 6, 3, dimensions=1), (2, 4, 7)),
        (ConvNorm(4, 6, 3, dimensions=3), (2, 4, 3, 4, 5)),
        (LinearNorm(4, 6), (2, 7, 5, 4)),
        (LinearNorm(4, 6), (2, 4)),
    ],
)
def test_folding_changes_the_layers_and_not_the_answers(pair: ConvNorm | LinearNorm, shape: tuple[int, ...]) -> None:
    randomise(pair)
    x = torch.randn(shape, dtype=torch.float64)
    expected = pair(x)
    pair.fold()
    torch.testing.assert_close(pair(x), expected)
    assert pair.norm is None
    before = pair.state_dict()
    pair.fold()
    assert pair.state_dict().keys() == before.keys()


@pytest.mark.parametrize("bias", [True, False])
def test_a_norm_folds_into_the_layer_after_it(bias: bool) -> None:
    norm, linear = randomise(nn.BatchNorm1d(4)), randomise(nn.Linear(4, 3, bias=bias))
    assert isinstance(linear, nn.Linear)
    x = torch.randn(5, 4, dtype=torch.float64)
    expected = linear(norm(x))
    fold_into_next(norm, linear)
    torch.testing.assert_close(linear(x), expected)


def test_frozen_weights_stay_frozen() -> None:
    pair = LinearNorm(4, 6).requires_grad_(False)
    pair.fold()
    assert not any(parameter.requires_grad for parameter in pair.parameters())
