"""Activations that learn are what their formulas say."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.nn.activations import PolyNorm, PolyReLU, build_activation


def normed(term: Tensor, eps: float = 1e-6) -> Tensor:
    return term * torch.rsqrt(term.pow(2).mean(-1, keepdim=True) + eps)


def plain(module: PolyNorm | PolyReLU, x: Tensor) -> Tensor:
    """The formula, term by term."""
    positive, powers = x.clamp(min=0), (3, 2, 1)
    terms = [positive**power if isinstance(module, PolyReLU) else normed(x**power) for power in powers]
    return sum(weight * term for weight, term in zip(module.weight, terms, strict=True)) + module.bias


@pytest.fixture(params=["poly_norm", "poly_relu"])
def activation(request: pytest.FixtureRequest) -> nn.Module:
    return build_activation(request.param).double()


def test_it_starts_at_the_mean_of_three_powers(activation: PolyNorm | PolyReLU) -> None:
    assert activation.weight.tolist() == [1 / 3] * 3 or torch.allclose(activation.weight, torch.tensor(1 / 3).double())
    assert activation.bias.tolist() == [0]
    assert sum(p.numel() for p in activation.parameters()) == 4


def test_value_and_gradients_are_those_of_the_formula(activation: PolyNorm | PolyReLU) -> None:
    torch.manual_seed(0)
    nn.init.normal_(activation.weight)
    nn.init.normal_(activation.bias)
    x = torch.randn(3, 12, dtype=torch.float64, requires_grad=True)
    inputs = (x, activation.weight, activation.bias)
    y, expected = activation(x), plain(activation, x)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    weights = torch.randn_like(y)
    for ours, theirs in zip(
        torch.autograd.grad((y * weights).sum(), inputs),
        torch.autograd.grad((expected * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_poly_norm_does_not_see_the_scale_of_its_input() -> None:
    x = torch.randn(3, 12, dtype=torch.float64)
    module = PolyNorm(eps=0).double()
    torch.testing.assert_close(module(5 * x), module(x), rtol=1e-12, atol=1e-12)
    odd, even = module(x) - module(-x), module(x) + module(-x)
    torch.testing.assert_close(odd, 2 / 3 * (normed(x**3, 0) + normed(x, 0)), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(even, 2 / 3 * normed(x**2, 0), rtol=1e-6, atol=1e-6)


def test_cubes_of_half_precision_do_not_overflow() -> None:
    x = torch.tensor([[60.0, -1, 2, 3]])
    for name in ("poly_norm", "poly_relu"):
        module = build_activation(name)
        expected = module(x)
        y = module.half()(x.half())
        assert y.dtype == torch.float16
        if expected.max() < torch.finfo(torch.float16).max:
            torch.testing.assert_close(y.float(), expected, rtol=2e-3, atol=2e-3)
    assert build_activation("poly_norm").half()(x.half()).isfinite().all()


def test_an_unknown_activation_is_refused() -> None:
    with pytest.raises(UserError, match=r"poly_nrom.*poly_norm"):
        build_activation("poly_nrom")
