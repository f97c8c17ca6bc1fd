"""The delta rule, gated and plain linear attention and the Legendre memory as layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from formwright.nn import build_part, part, streaming

LAYERS: dict[str, dict[str, Any]] = {
    "delta_rule": {"heads": 2},
    "gated_linear_attention": {"heads": 2},
    "linear_attention": {"heads": 2, "causal": True},
    "legendre_memory": {"window": 9},
}
each_layer = pytest.mark.parametrize("name", LAYERS)


@each_layer
def test_a_long_text_in_segments_is_as_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = build_part(part(name, **LAYERS[name]), 16).double().eval()
    x = torch.randn(2, 50, 16, dtype=torch.float64)
    whole = layer(x)
    monkeypatch.setattr(streaming, "SEGMENT", 12)
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
