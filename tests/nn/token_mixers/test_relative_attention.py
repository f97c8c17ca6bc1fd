"""Attention by distance against a loop, and memory: segments give what one long pass gives, without its gradient."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from formwright.errors import UserError
from formwright.nn import build_part, part
from formwright.nn.token_mixers.relative_attention import RelativeAttention, distance_table
from tests.conformance.instances import randomise


def build(**options: Any) -> RelativeAttention:
    module = build_part(part("relative_attention", heads=2, **options), 8).double().eval()
    randomise(module)
    assert isinstance(module, RelativeAttention)
    return module


def sequence(time: int = 7) -> Tensor:
    return torch.randn(2, time, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def naive(module: RelativeAttention, x: Tensor) -> Tensor:
    batch, time, _ = x.shape
    q, k, v = module.qkv(x).view(batch, time, 3, module.heads, -1).unbind(2)
    r = module.distance(distance_table(time, 8, x)).view(time, module.heads, -1)
    window = time if module.window is None else module.window
    y = torch.zeros_like(q)
    for b in range(batch):
        for h in range(module.heads):
            for i in range(time):
                seen = range(max(0, i - window + 1), i + 1)
                content, distance = q[b, i, h] + module.content_bias[h], q[b, i, h] + module.distance_bias[h]
                scores = torch.stack([content @ k[b, j, h] + distance @ r[i - j, h] for j in seen])
                weights = (scores / math.sqrt(module.head_dim)).softmax(0)
                y[b, i, h] = sum(w * v[b, j, h] for w, j in zip(weights, seen, strict=True))
    return module.proj(y.flatten(2))


@pytest.mark.parametrize("window", [None, 1, 3, 20])
def test_equals_a_loop(window: int | None) -> None:
    module = build(window=window)
    torch.testing.assert_close(module(sequence()), naive(module, sequence()), rtol=1e-9, atol=1e-9)


def test_distances_are_sines_then_cosines() -> None:
    table = distance_table(3, 4, torch.zeros(1, dtype=torch.float64))
    expected = torch.tensor([math.sin(2.0), math.sin(0.02), math.cos(2.0), math.cos(0.02)], dtype=torch.float64)
    torch.testing.assert_close(table[2], expected)


def test_a_segment_remembers_the_one_before_without_its_gradient() -> None:
    module = build(window=5)
    x = sequence(8).requires_grad_()
    length, outputs, state = torch.zeros(2, dtype=torch.int64), [], module.init_state(2, 8, dtype=torch.float64)
    for segment in x.split(4, dim=1):
        y, state = module.stream(segment, {**state, "length": length})
        outputs.append(y)
        length = length + 4
    torch.testing.assert_close(torch.cat(outputs, dim=1), module(x), rtol=1e-9, atol=1e-9)
    outputs[1].square().sum().backward()
    assert x.grad is not None
    assert x.grad[:, :4].abs().max() == 0
    assert x.grad[:, 4:].abs().min() > 0
    assert module.qkv.weight.grad is not None, "the memory is read with today's weights"


def test_the_memory_is_as_long_as_the_window() -> None:
    assert build(window=5).init_state(2, 1000)["memory"].shape == (2, 4, 8)
    assert build(window=1).init_state(2, 1000)["memory"].shape == (2, 0, 8)


def test_impossible_options_are_refused() -> None:
    with pytest.raises(UserError, match="at least 1"):
        build(window=0)
    with pytest.raises(UserError, match="even number"):
        build_part(part("relative_attention", heads=1), 7)
    with pytest.raises(UserError, match="heads must divide"):
        build_part(part("relative_attention", heads=3), 8)
