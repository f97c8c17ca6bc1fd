"""Norms are what their formulas say, and become part of the layer after them."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from formwright.nn import Context, build_part, part
from formwright.nn.channel_mixers.mlp import MLP
from formwright.nn.norms import AffineNorm, BatchNorm


def test_rms_norm_is_pytorchs() -> None:
    x, weight = torch.randn(2, 5, 16, dtype=torch.float64), torch.rand(16, dtype=torch.float64)
    norm = build_part(part("rms_norm", eps=1e-6), 16).double()
    norm.weight.data.copy_(weight)
    torch.testing.assert_close(norm(x), F.rms_norm(x, (16,), weight, 1e-6), rtol=1e-12, atol=1e-12)


def test_crms_norm_is_a_layer_norm_of_the_vector_made_whole() -> None:
    x = torch.randn(2, 5, 15, dtype=torch.float64)
    whole = torch.cat([x, -x.sum(-1, keepdim=True)], -1)
    norm = build_part(part("crms_norm", eps=1e-5), 15).double()
    torch.testing.assert_close(norm(x), F.layer_norm(whole, (16,))[..., :-1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["rms_norm", "crms_norm"])
def test_statistics_of_half_precision_are_those_of_float32(name: str) -> None:
    x = 300 * torch.randn(2, 5, 16)
    norm = build_part(part(name), 16)
    y = norm.half()(x.half())
    assert y.dtype == torch.float16
    torch.testing.assert_close(y.float(), norm.float()(x), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm", "crms_norm"])
def test_weights_can_be_taken_into_the_next_dense_layer(name: str) -> None:
    torch.manual_seed(0)
    norm, mlp = build_part(part(name, bias=True), 16), MLP(16)
    assert isinstance(norm, AffineNorm)
    assert norm.weight is not None
    assert norm.bias is not None
    torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
    torch.nn.init.normal_(norm.bias)
    x = torch.randn(2, 5, 16)
    expected = mlp(norm(x))
    with torch.no_grad():
        norm.fold_into(mlp)
    assert norm.weight is None
    torch.testing.assert_close(mlp(norm(x)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_padding_has_no_part_in_what_a_batch_norm_learns(dtype: torch.dtype, momentum: float | None) -> None:
    """As if PyTorch's norm had been given the real tokens alone, twice, and then in eval mode."""
    torch.manual_seed(0)
    ours, theirs = BatchNorm(5).to(dtype), torch.nn.BatchNorm1d(5, momentum=momentum, dtype=dtype)
    ours.norm.momentum = momentum
    for _ in range(2):
        x = torch.randn(3, 4, 6, 5, dtype=dtype)
        mask = torch.rand(3, 4, 6) < 0.7
        padded = torch.where(mask[..., None], x, torch.inf).requires_grad_()
        real = x[mask].requires_grad_()
        y, expected = ours(padded, Context(mask=mask)), theirs(real)
        torch.testing.assert_close(y[mask], expected)
        y[mask].sin().sum().backward()
        expected.sin().sum().backward()
        torch.testing.assert_close(padded.grad[mask], real.grad)
        assert not padded.grad[~mask].any()
    for name, tensor in theirs.state_dict().items():
        torch.testing.assert_close(ours.norm.state_dict()[name], tensor)
    x = torch.randn(2, 7, 5, dtype=dtype)
    mask = torch.arange(7) < 3
    assert torch.equal(ours.eval()(x, Context(mask=mask.expand(2, 7))), ours(x))


def test_a_batch_norm_that_sees_padding_alone_stays_as_it_is() -> None:
    norm = BatchNorm(5).train()
    before = {name: tensor.clone() for name, tensor in norm.norm.state_dict().items() if "running" in name}
    y = norm(torch.randn(2, 7, 5), Context(mask=torch.zeros(2, 7, dtype=torch.bool)))
    assert torch.isfinite(y).all()
    assert all(torch.equal(norm.norm.state_dict()[name], tensor) for name, tensor in before.items())
