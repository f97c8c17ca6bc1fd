"""Depthwise convolutions against sums written out over the neighbourhood."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from formwright.errors import UserError
from formwright.nn import Context, build_part, part
from formwright.nn.edits import keep_entries
from formwright.nn.token_mixers.convolution import SeparableConvolution

GRIDS = [(11,), (6, 9), (4, 3, 5)]


def sum_over_neighbours(x, weight, bias):
    """``y[p, c] = b[c] + sum over o of W[o, c] x[p + o, c]`` on channels-last ``x``, place by place."""
    grid, kernel = x.shape[1:-1], weight.shape[-1]
    y = bias.expand(x.shape).clone()
    for place in itertools.product(*map(range, grid)):
        for offset in itertools.product(range(kernel), repeat=len(grid)):
            source = tuple(p + o - kernel // 2 for p, o in zip(place, offset, strict=True))
            if all(0 <= s < side for s, side in zip(source, grid, strict=True)):
                y[(slice(None), *place)] += x[(slice(None), *source)] * weight[(slice(None), 0, *offset)]
    return y


@pytest.mark.parametrize("grid", GRIDS)
def test_depthwise_convolution_is_the_sum_over_neighbours(grid):
    mixer = build_part(part("depthwise_convolution", kernel=3), 4, grid=grid).double()
    x = torch.randn(2, *grid, 4, dtype=torch.float64)
    assert torch.allclose(mixer(x), sum_over_neighbours(x, mixer.conv.weight, mixer.conv.bias))


@pytest.mark.parametrize("grid", GRIDS)
def test_separable_convolution_is_its_formula(grid):
    mixer = SeparableConvolution(4, kernel=3, activation="squared_relu", grid=grid).double()
    x = torch.randn(2, *grid, 4, dtype=torch.float64)
    hidden = (x @ mixer.fc1.weight.T).relu().square()
    mixed = sum_over_neighbours(hidden, mixer.conv.weight, hidden.new_zeros(8))
    assert torch.allclose(mixer(x), mixed @ mixer.fc2.weight.T)


@pytest.mark.parametrize("name", ["depthwise_convolution", "separable_convolution"])
def test_masked_tokens_change_nothing(name):
    mixer = build_part(part(name), 6)
    x = torch.randn(2, 8, 8, 6)
    mask = torch.rand(2, 8, 8) > 0.4
    context = Context(mask=mask)
    other = torch.where(mask.unsqueeze(-1), x, torch.randn_like(x))
    assert torch.allclose(mixer(x, context)[mask], mixer(other, context)[mask], atol=1e-6)
    assert not torch.allclose(mixer(x)[mask], mixer(other)[mask], atol=1e-6)


def test_hidden_channels_can_be_cut():
    model = nn.ModuleDict({"mixer": SeparableConvolution(6, kernel=5)})
    mixer = model["mixer"]
    with torch.no_grad():
        mixer.fc2.weight[:, [1, 4]] = 0
    x = torch.randn(2, 7, 7, 6)
    before = mixer(x)
    keep_entries(model, "mixer", "hidden", [index for index in range(12) if index not in (1, 4)])
    assert mixer.conv.weight.shape == (10, 1, 5, 5)
    assert torch.allclose(mixer(x), before, atol=1e-6)


def test_even_kernels_and_impossible_grids_are_refused():
    with pytest.raises(UserError, match="odd kernel, got 4"):
        build_part(part("depthwise_convolution", kernel=4), 8)
    with pytest.raises(UserError, match="1, 2 or 3 dimensions, got 4"):
        build_part(part("separable_convolution"), 8, grid=(2, 2, 2, 2))
