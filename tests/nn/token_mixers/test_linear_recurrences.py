"""The delta rule, gated and plain linear attention and the Legendre memory as layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from formwright.measurement.macs import count_macs
from formwright.models import empty_copy, model_specification
from formwright.nn import build_part, part
from formwright.nn.functional.decode import blockwise_attention
from formwright.nn.functional.delta_rule import delta_rule
from formwright.nn.functional.gated_linear_attention import gated_linear_attention
from formwright.nn.functional.legendre_memory import legendre_memory, legendre_tables
from formwright.nn.functional.linear_attention import causal_linear_attention
from formwright.nn.token_mixers import recurrent

LAYERS: dict[str, dict[str, Any]] = {
    "delta_rule": {"heads": 2},
    "gated_linear_attention": {"heads": 2},
    "linear_attention": {"heads": 2, "causal": True},
    "legendre_memory": {"window": 9},
}
each_layer = pytest.mark.parametrize("name", LAYERS)


@each_layer
def test_a_long_text_in_pieces_is_as_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = build_part(part(name, **LAYERS[name]), 16).double().eval()
    x = torch.randn(2, 50, 16, dtype=torch.float64)
    whole = layer(x)
    monkeypatch.setattr(recurrent, "PIECE", 12)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), whole, rtol=1e-9, atol=1e-9)


@each_layer
def test_the_state_does_not_grow(name: str) -> None:
    layer = build_part(part(name, **LAYERS[name]), 16)
    shapes = [{key: value.shape for key, value in layer.init_state(2, time).items()} for time in (10, 100_000)]
    assert shapes[0] == shapes[1]


@each_layer
def test_memories_are_kept_in_float32_at_least(name: str) -> None:
    layer = build_part(part(name, **LAYERS[name]), 16).bfloat16().eval()
    y, state = layer.stream(torch.randn(2, 3, 16).bfloat16(), layer.init_state(2, 8, dtype=torch.bfloat16))
    assert y.dtype == torch.bfloat16
    assert state["memory"].dtype == torch.float32


@each_layer
def test_layers_train_under_autocast(name: str) -> None:
    layer = build_part(part(name, **LAYERS[name]), 16)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(torch.randn(2, 40, 16))
    y.float().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in layer.parameters() if p.grad is not None)


def test_autocast_rounds_no_recurrence() -> None:
    q, k, v = torch.randn(3, 1, 70, 2, 8, generator=torch.Generator().manual_seed(0)).unbind(0)
    forms = {
        "delta_rule": lambda: delta_rule(q, k / 8, v, v[..., 0].sigmoid()),
        "gated": lambda: gated_linear_attention(q, k, v, -k.exp()),
        "strongly gated": lambda: gated_linear_attention(q, k, v, -99 * k.exp()),
        "linear": lambda: causal_linear_attention(q, k, v),
        "legendre": lambda: legendre_memory(v[..., 0], legendre_tables(6, 9)),
        "decode": lambda: (blockwise_attention(q, k, v, block=16),),
    }
    for name, form in forms.items():
        expected = form()
        with torch.autocast("cpu", torch.bfloat16):
            ours = form()
        assert all(map(torch.equal, ours, expected)), name


@pytest.mark.parametrize("name", ["deltanet_340m", "gla_340m"])
def test_multiply_accumulates_are_counted_without_values(name: str) -> None:
    """A MAC a weight and token for the dense layers, and less than half as many for the recurrence."""
    specification = model_specification(name, dim=64, depth=2, heads=2, hidden=128, vocabulary=32)
    model = empty_copy(specification)
    tokens = 256
    macs = count_macs(model, torch.zeros(1, tokens, dtype=torch.int64, device="meta"))
    dense = sum(module.weight.numel() for module in model.modules() if isinstance(module, torch.nn.Linear))
    dense += 32 * 64 if getattr(model.head, "tied", False) else 0
    assert dense * tokens < macs < 1.5 * dense * tokens
