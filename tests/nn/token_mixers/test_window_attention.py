"""Window attention against loops over places, on grids that windows do not divide, with masks and fewer heads."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from formwright.errors import UserError
from formwright.nn import Context, build_part, part
from formwright.nn.edits import keep_entries


def mixer(grid, dim: int = 12, **options) -> nn.Module:
    module = (
        build_part(part("window_attention", **{"heads": 3, "window": 4, **options}), dim, grid=grid).double().eval()
    )
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


def loops(module, x, shift):
    """Each place attends to those of its window; with a shift, windows start at ``shift - window``, ``shift``, ..."""
    grid, window = x.shape[1:-1], module.window
    q, k, v = module.qkv(x).unflatten(-1, (3, module.heads, module.head_dim)).unbind(-3)
    y = torch.zeros_like(q)
    places = list(itertools.product(*map(range, grid)))
    for place in places:
        home = [(p - shift) // window for p in place]
        others = [other for other in places if [(o - shift) // window for o in other] == home]
        for head in range(module.heads):
            scores = []
            for other in others:
                row = 0
                for p, o in zip(place, other, strict=True):
                    row = row * (2 * window - 1) + (p - o + window - 1)
                bias = module.relative_position_bias.table[row, head]
                product = (q[(slice(None), *place, head)] * k[(slice(None), *other, head)]).sum(-1)
                scores.append(product / math.sqrt(module.head_dim) + bias)
            weights = torch.stack(scores, -1).softmax(-1)
            values = torch.stack([v[(slice(None), *other, head)] for other in others], 1)
            y[(slice(None), *place, head)] = (weights[..., None] * values).sum(1)
    return module.proj(y.flatten(-2))


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(
    ("grid", "window"), [((8, 12), 4), ((9, 6), 4), ((7, 5), 3), ((11,), 4), ((4, 3, 5), 2)], ids=str
)
@torch.no_grad()
def test_it_is_a_loop_over_places(grid, window, shifted):
    module = mixer(grid, window=window, shifted=shifted)
    assert module.shift == (window // 2 if shifted else 0)
    x = torch.randn(2, *grid, 12, dtype=torch.float64)
    assert torch.allclose(module(x), loops(module, x, module.shift))


def test_places_far_apart_that_share_a_rolled_window_do_not_see_each_other():
    module = mixer((8, 8), shifted=True)
    x = torch.randn(1, 8, 8, 12, dtype=torch.float64)
    changed = x.clone()
    changed[:, 7, 7] += 1
    differs = (module(changed) - module(x)).abs().amax(-1)[0] > 1e-9
    assert differs[6:, 6:].all()
    differs[6:, 6:] = False
    assert not differs.any()


@pytest.mark.parametrize("grid", [(4, 4), (4, 9), (3, 8)])
def test_a_grid_no_larger_than_the_window_has_one_that_does_not_move(grid):
    module = mixer(grid, shifted=True)
    assert module.window == min(grid)
    assert module.shift == 0
    assert module.relative_position_bias.table.shape == ((2 * min(grid) - 1) ** 2, 3)


@pytest.mark.parametrize("grid", [(13,), (5, 9), (3, 4, 6)])
@pytest.mark.parametrize("shifted", [False, True])
def test_masked_tokens_change_nothing(grid, shifted):
    module = mixer(grid, window=2, shifted=shifted)
    x = torch.randn(2, *grid, 12, dtype=torch.float64)
    mask = torch.rand(2, *grid) > 0.4
    other = torch.where(mask.unsqueeze(-1), x, torch.randn_like(x))
    assert torch.allclose(module(x, Context(mask=mask))[mask], module(other, Context(mask=mask))[mask])
    assert not torch.allclose(module(x)[mask], module(other)[mask])
    assert torch.allclose(module(x, Context(mask=torch.ones_like(mask))), module(x))
    assert module(x, Context(mask=torch.zeros_like(mask))).isfinite().all()


def test_every_parameter_learns():
    module = mixer((6, 7), shifted=True)
    x = torch.randn(2, 6, 7, 12, dtype=torch.float64)
    (module(x) * torch.randn_like(x)).sum().backward()
    assert all(parameter.grad.abs().max() > 1e-6 for parameter in module.parameters())


def test_cut_heads_are_those_that_give_nothing():
    model = nn.ModuleDict({"mixer": mixer((8, 8), shifted=True)})
    module = model["mixer"]
    module.proj.weight.data[:, 4:8] = 0  # what the second head gives is not looked at
    x = torch.randn(2, 8, 8, 12, dtype=torch.float64)
    before = module(x)
    keep_entries(model, "mixer", "heads", [0, 2])
    assert module.relative_position_bias.table.shape == (49, 2)
    assert torch.allclose(module(x), before)


def test_bad_options_and_grids_are_named():
    with pytest.raises(UserError, match="12 channels cannot be split over 5 heads"):
        mixer((8, 8), heads=5)
    with pytest.raises(UserError, match="at least one token a side, got 0"):
        mixer((8, 8), window=0)
    with pytest.raises(UserError, match="built for a grid of 2 axes, and got one of 1: 64"):
        mixer((8, 8))(torch.randn(1, 64, 12, dtype=torch.float64))
