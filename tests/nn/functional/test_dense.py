"""The fused dense layer against the three operations that it stands for."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from formwright.nn.activations import ACTIVATIONS, build_activation
from formwright.nn.functional.dense import dense

LARGE = (2, 20, 20, 96)  # enough work for the fused operation, with 128 outputs


def layers(activation: str, bias: bool = True) -> tuple[nn.Linear, nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    linear, module = nn.Linear(96, 128, bias=bias), build_activation(activation)
    for parameter in module.parameters():
        nn.init.uniform_(parameter, 0.5, 1.5)
    return linear, module, torch.randn(LARGE)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_it_gives_what_the_separate_operations_give(activation: str, bias: bool) -> None:
    linear, module, x = layers(activation, bias)
    expected = module(linear(x))
    with torch.no_grad():
        torch.testing.assert_close(dense(linear, x, module), expected.detach())
        strided = x.transpose(1, 2)
        torch.testing.assert_close(dense(linear, strided, module), module(linear(strided)))


def test_approximate_gelu_stays_approximate() -> None:
    linear, _, x = layers("gelu")
    with torch.no_grad():
        expected = nn.GELU("tanh")(linear(x))
        torch.testing.assert_close(dense(linear, x, nn.GELU("tanh")), expected, rtol=1e-5, atol=1e-5)


def test_gradients_flow_while_they_are_recorded() -> None:
    linear, module, x = layers("star_relu")
    dense(linear, x, module).sum().backward()
    assert linear.weight.grad is not None
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_a_hook_on_the_layer_hears_of_the_call() -> None:
    linear, module, x = layers("gelu")
    heard = []
    linear.register_forward_hook(lambda *arguments: heard.append(arguments[-1].shape))
    with torch.no_grad():
        dense(linear, x, module)
    assert heard == [torch.Size((2, 20, 20, 128))]


def test_the_counter_of_operations_still_counts_it() -> None:
    from formwright.measurement import count_macs
    from formwright.nn.channel_mixers.mlp import MLP

    mlp = MLP(96, hidden=128)
    assert count_macs(mlp, torch.randn(LARGE)) == 2 * 800 * 96 * 128
