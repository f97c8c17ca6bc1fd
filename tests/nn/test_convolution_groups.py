"""Whitened patches and groups of convolutions against their formulas."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from formwright.errors import UserError
from formwright.nn import build_part, part
from formwright.nn.functional.whitening import patches, whitening


def pictures(count: int = 64, channels: int = 3, size: tuple[int, int] = (9, 11)) -> torch.Tensor:
    """Smooth ones, whose neighbouring pixels and channels are much alike."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(count, channels, *size, generator=generator, dtype=torch.float64)
    return noise.cumsum(-1).cumsum(-2) / 5 + noise.mean(1, keepdim=True)


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (2, 1), (3, 2), (4, 3)])
def test_patches_are_pytorchs(kernel, stride):
    x = pictures()
    expected = F.unfold(x, kernel, stride=stride).transpose(1, 2).flatten(0, 1)
    assert torch.equal(patches(x, kernel, stride), expected)


@pytest.mark.parametrize("size", [(12,), (5, 6), (4, 3, 5)])
def test_patches_of_any_number_of_axes_have_the_order_of_a_kernel(size):
    axes = len(size)
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    kernel = torch.randn(7, 3, *[2] * axes, dtype=torch.float64)
    convolved = (F.conv1d, F.conv2d, F.conv3d)[axes - 1](x, kernel)
    torch.testing.assert_close(patches(x, 2) @ kernel.flatten(1).T, convolved.movedim(1, -1).flatten(0, -2))


def test_whitened_patches_are_uncorrelated_and_of_equal_size():
    rows = patches(pictures(), 2)
    before = rows.T @ rows / len(rows)
    assert (before - torch.eye(12)).abs().max() > 1
    white = rows @ whitening(rows, eps=0.0).T
    torch.testing.assert_close(white.T @ white / len(white), torch.eye(12, dtype=torch.float64))


def test_small_directions_are_not_blown_up_and_the_largest_come_first():
    rows = patches(pictures(), 2)
    values = torch.linalg.eigvalsh(rows.T @ rows / len(rows)).flip(0)
    eps = float(values[5])
    white = rows @ whitening(rows, eps=eps, most=7).T
    torch.testing.assert_close(white.T @ white / len(white), torch.diag(values[:7] / (values[:7] + eps)))
    flat = torch.zeros(50, 4)
    assert whitening(flat, eps=1e-3).isfinite().all()


def test_the_stem_whitens_the_patches_of_what_it_is_shown_with_both_signs():
    stem = build_part(part("whitened_patches", kernel=2, eps=0.0, activation="identity"), 3, 24, grid=(9, 11)).double()
    x = pictures()
    stem.init_weights()
    square = stem.conv.weight[:12].flatten(1)
    torch.testing.assert_close(square @ square.T, torch.eye(12, dtype=torch.float64), rtol=0, atol=1e-6)
    bias = stem.conv.bias.detach().clone()
    stem.whiten(x)
    tokens, _ = stem(x)
    assert tokens.shape == (64, 8, 10, 24)
    tokens = tokens - bias
    torch.testing.assert_close(tokens[..., :12], -tokens[..., 12:])
    white = tokens[..., :12].flatten(0, -2)
    torch.testing.assert_close(white.T @ white / len(white), torch.eye(12, dtype=torch.float64))
    assert not stem.conv.weight.requires_grad
    assert stem.conv.bias.requires_grad


def test_a_stem_with_fewer_channels_keeps_the_largest_directions():
    x = pictures(channels=1)
    few, all_of_them = (build_part(part("whitened_patches", kernel=2), 1, dim, grid=(9, 11)) for dim in (4, 8))
    few.whiten(x)
    all_of_them.whiten(x)
    assert torch.equal(few.conv.weight[:2], all_of_them.conv.weight[:2])


@pytest.mark.parametrize("dim", [7, 26, 0])
def test_channels_that_no_directions_give_are_refused(dim):
    with pytest.raises(UserError, match="24 at most; got"):
        build_part(part("whitened_patches", kernel=2), 3, dim, grid=(8, 8))


def by_formula(group, x: torch.Tensor) -> torch.Tensor:
    """The group in eval mode on ``(batch, channels, height, width)``, written down."""

    def normed(layer, x):
        mean, variance = layer.norm.running_mean[:, None, None], layer.norm.running_var[:, None, None]
        return (x - mean) / torch.sqrt(variance + 1e-5) + layer.norm.bias[:, None, None]

    entered = x = F.gelu(normed(group.first, F.max_pool2d(F.conv2d(x, group.first.conv.weight, padding=1), 2)))
    for layer in group.others[:-1]:
        x = F.gelu(normed(layer, F.conv2d(x, layer.conv.weight, padding=1)))
    for layer in group.others[-1:]:
        x = normed(layer, F.conv2d(x, layer.conv.weight, padding=1))
        x = F.gelu(x + entered if len(group.others) > 1 else x)
    return x


def trained_group(convolutions: int):
    torch.manual_seed(0)
    group = build_part(part("convolution_group", convolutions=convolutions), 6, 10, grid=(7, 9)).double()
    for layer in (group.first, *group.others):
        layer.init_weights()
        nn.init.normal_(layer.norm.bias)
    for _ in range(3):
        group(torch.randn(8, 7, 9, 6, dtype=torch.float64))
    return group.eval()


@pytest.mark.parametrize("convolutions", [1, 2, 3, 4])
def test_a_group_is_what_its_formula_says_also_when_folded(convolutions):
    group = trained_group(convolutions)
    x = torch.randn(2, 7, 9, 6, dtype=torch.float64)
    expected = by_formula(group, x.movedim(-1, 1)).movedim(1, -1)
    torch.testing.assert_close(group(x)[0], expected)
    folded = copy.deepcopy(group)
    for layer in (folded.first, *folded.others):
        layer.fold()
        assert layer.norm is None
    torch.testing.assert_close(folded(x)[0], expected)


def test_a_norm_that_turns_its_channels_around_stays_where_it_is():
    group = trained_group(1)
    with torch.no_grad():
        group.first.norm.weight[3] = -1.0
    x = torch.randn(2, 7, 9, 6, dtype=torch.float64)
    expected = group(x)[0]
    group.first.fold()
    assert group.first.norm is not None
    assert torch.equal(group(x)[0], expected)


def test_kernels_start_as_the_identity_and_norms_have_fixed_weights():
    group = build_part(part("convolution_group", pool=1, convolutions=2), 6, 10, grid=(5, 5))
    group.first.init_weights()
    x = torch.randn(1, 6, 5, 5)
    assert torch.equal(group.first.conv(x)[:, :6], x)
    assert [name for name, p in group.named_parameters() if p.requires_grad] == [
        "first.conv.weight",
        "first.norm.bias",
        "others.0.conv.weight",
        "others.0.norm.bias",
    ]
    assert group.first.norm.momentum == 0.4


def test_a_group_has_a_convolution():
    with pytest.raises(UserError, match="at least one"):
        build_part(part("convolution_group", convolutions=0), 6, 10, grid=(5, 5))
