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


@pytest.mark.parametrize("bias", [True, False])
def test_gradients_are_those_of_the_plain_product(bias: bool) -> None:
    linear, _, x = layers("identity", bias)
    weights = torch.randn(2, 20, 20, 128)
    found = []
    for call in (lambda x: dense(linear, x), linear):
        x = x.detach().requires_grad_()
        linear.zero_grad()
        (call(x) * weights).sum().backward()
        found.append([x.grad, *(parameter.grad for parameter in linear.parameters())])
    assert type(dense(linear, x).grad_fn).__name__ == "_DenseBackward"
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)


def test_a_gradient_that_is_the_same_everywhere_and_one_that_is_not_asked_for() -> None:
    linear, _, x = layers("identity")
    linear.weight.requires_grad_(False)
    y = dense(linear, x)
    y.sum().backward()
    assert linear.weight.grad is None
    torch.testing.assert_close(linear.bias.grad, torch.full((128,), 800.0))


def test_gradients_can_be_differentiated_again() -> None:
    linear, _, x = layers("identity")
    x.requires_grad_()
    (first,) = torch.autograd.grad(dense(linear, x).square().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    gram = linear.weight.T @ linear.weight
    torch.testing.assert_close(second.flatten(0, 2), (2 * gram.sum(0)).expand(800, 96), rtol=1e-4, atol=1e-4)


def test_functions_of_functions_use_the_plain_product() -> None:
    linear, _, x = layers("identity")
    rows = torch.func.vmap(lambda row: dense(linear, row))(x)
    torch.testing.assert_close(rows, linear(x))
    with torch.autograd.forward_ad.dual_level():
        y = dense(linear, torch.autograd.forward_ad.make_dual(x, torch.ones_like(x)))
        change = torch.autograd.forward_ad.unpack_dual(y).tangent
    torch.testing.assert_close(change, torch.ones_like(x) @ linear.weight.T, rtol=1e-4, atol=1e-4)


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
