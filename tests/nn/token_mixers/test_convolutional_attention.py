"""Convolutional projection attention against its formula, with masks, class tokens and fewer heads."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from formwright.errors import UserError
from formwright.nn import Context, build_part, part
from formwright.nn.edits import fold, keep_entries

CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
AVERAGE = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
METHODS = ["dw_bn", "avg", "linear"]


def mixer(dim: int = 12, **options) -> nn.Module:
    """A part whose every parameter and statistic is random, in float64 and eval mode."""
    module = build_part(part("convolutional_projection_attention", **{"heads": 3, **options}), dim).double().eval()
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.is_floating_point():
            tensor.data.copy_(torch.rand_like(tensor) + 0.5 if "var" in name else torch.randn_like(tensor) / 3)
    return module


def formula(module, x, method, prefix=None):
    """The equations, step by step, for ``x`` of ``(batch, *grid, dim)``."""

    def project(name, stride):
        if method == "linear" or (method == "avg" and name == "query"):
            return x.flatten(1, -2)
        y = x.movedim(-1, 1)
        if method == "avg":
            y = AVERAGE[x.ndim - 2](y, 3, stride, 1, ceil_mode=True)
        else:
            projection = getattr(module, f"{name}_projection")
            y = CONVOLVE[x.ndim - 2](y, projection.conv.weight, stride=stride, padding=1, groups=x.shape[-1])
            y = projection.norm(y)
        return y.flatten(2).mT

    tokens = {name: project(name, stride) for name, stride in (("query", 1), ("key", 2), ("value", 2))}
    if prefix is not None:
        tokens = {name: torch.cat([prefix, places], 1) for name, places in tokens.items()}
    q, k, v = (getattr(module, name)(tokens[name]) for name in ("query", "key", "value"))
    heads = []
    for q_head, k_head, v_head in zip(q.chunk(3, -1), k.chunk(3, -1), v.chunk(3, -1), strict=True):
        heads.append((q_head @ k_head.mT / x.shape[-1] ** 0.5).softmax(-1) @ v_head)
    return module.proj(torch.cat(heads, -1))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("grid", [(9,), (6, 5), (4, 3, 5)])
def test_it_is_its_formula(method, grid):
    module = mixer(method=method, dimensions=len(grid))
    x = torch.randn(2, *grid, 12, dtype=torch.float64)
    assert torch.allclose(module(x), formula(module, x, method).view(x.shape))


@pytest.mark.parametrize("method", METHODS)
def test_class_tokens_pass_by_the_convolutions(method):
    module = mixer(method=method)
    x = torch.randn(2, 2 + 5 * 4, 12, dtype=torch.float64)
    expected = formula(module, x[:, 2:].view(2, 5, 4, 12), method, prefix=x[:, :2])
    assert torch.allclose(module(x, Context(prefix=2, grid=(5, 4))), expected)


@pytest.mark.parametrize(("grid", "keys"), [((14, 14), 49), ((7, 4), 8), ((1, 1), 1)])
def test_keys_and_values_have_a_quarter_of_the_tokens(grid, keys):
    module = mixer()
    x = torch.randn(1, *grid, 12, dtype=torch.float64)
    assert module.key_projection(x).flatten(1, -2).shape[1] == keys
    assert module.value_projection(x).shape == module.key_projection(x).shape
    assert module.query_projection(x).shape == x.shape


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("prefix", [0, 1])
def test_masked_tokens_change_nothing(method, prefix):
    module = mixer(method=method)
    mask = torch.rand(2, prefix + 30) > 0.4
    context = Context(mask=mask, prefix=prefix, grid=(6, 5))
    x = torch.randn(2, prefix + 30, 12, dtype=torch.float64)
    other = torch.where(mask.unsqueeze(-1), x, torch.randn_like(x))
    assert torch.allclose(module(x, context)[mask], module(other, context)[mask])
    everything = Context(mask=torch.ones_like(mask), prefix=prefix, grid=(6, 5))
    assert torch.allclose(module(x, everything), module(x, Context(prefix=prefix, grid=(6, 5))))


@pytest.mark.parametrize("side", [5, 6])
def test_a_padded_grid_gives_what_the_grid_alone_gives(side):
    module = mixer()
    x = torch.randn(2, side, side, 12, dtype=torch.float64)
    padded = F.pad(x, (0, 0, 0, 3, 0, 2), value=7.0)
    mask = torch.zeros(2, side + 2, side + 3, dtype=torch.bool)
    mask[:, :side, :side] = True
    assert torch.allclose(module(padded, Context(mask=mask))[:, :side, :side], module(x))


def test_no_real_key_gives_a_finite_answer_and_gradient():
    module = mixer()
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[:, 1, 1] = True  # the keys are centred at even places
    x = torch.randn(1, 4, 4, 12, dtype=torch.float64, requires_grad=True)
    y = module(x, Context(mask=mask))
    y.sum().backward()
    assert torch.allclose(y, module.proj.bias.expand_as(y))
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("prefix", [0, 1])
def test_gradients_reach_every_parameter_but_biases_of_all_keys(prefix):
    module = mixer()
    context = Context(prefix=prefix, grid=(6, 5)) if prefix else Context()
    x = torch.randn(2, 31, 12, dtype=torch.float64) if prefix else torch.randn(2, 6, 5, 12, dtype=torch.float64)
    (module(x, context) * torch.randn_like(x)).sum().backward()
    unreached = {name for name, parameter in module.named_parameters() if parameter.grad.abs().max() < 1e-12}
    assert unreached == {"key.bias"} | (set() if prefix else {"key_projection.norm.bias"})


def test_folding_the_norms_changes_nothing():
    module = mixer()
    x = torch.randn(2, 6, 5, 12, dtype=torch.float64)
    before = module(x)
    fold(module, "", {})
    assert not any(isinstance(child, nn.BatchNorm2d) for child in module.modules())
    assert torch.allclose(module(x), before)


def test_cut_heads_are_those_that_give_nothing():
    model = nn.ModuleDict({"mixer": mixer()})
    module = model["mixer"]
    module.proj.weight.data[:, 4:8] = 0  # what the second head gives is not looked at
    x = torch.randn(2, 6, 5, 12, dtype=torch.float64)
    before = module(x)
    keep_entries(model, "mixer", "heads", [0, 2])
    assert module.heads == 2
    assert module.query.weight.shape == (8, 12)
    assert torch.allclose(module(x), before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 5}, "12 channels cannot be split over 5 heads"),
        ({"method": "dw"}, "no projection method named 'dw'; did you mean dw_bn"),
        ({"kernel": 4}, "odd kernel .* got kernel 4"),
        ({"dimensions": 4}, "grid of 1, 2 or 3 dimensions, got .* 4 dimensions"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(UserError, match=message):
        mixer(**options)
