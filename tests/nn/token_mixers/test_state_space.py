"""Mamba and Mamba-2: long texts in pieces, and sizes that cannot be."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from formwright.errors import UserError
from formwright.nn import build_part, part
from formwright.nn.token_mixers import recurrent

LAYERS = {
    "mamba": {"states": 3},
    "mamba2": {"states": 3, "head_dim": 8, "chunk": 4},
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_long_text_in_pieces_is_as_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = build_part(part(name, **LAYERS[name]), 16).double()
    x = torch.randn(2, 50, 16, dtype=torch.float64)
    whole = layer(x)
    monkeypatch.setattr(recurrent, "PIECE", 12)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", LAYERS)
def test_the_state_does_not_grow(name: str) -> None:
    layer = build_part(part(name, **LAYERS[name]), 16)
    shapes = [{key: value.shape for key, value in layer.init_state(2, time).items()} for time in (10, 100_000)]
    assert shapes[0] == shapes[1]


def test_states_are_kept_in_float32_at_least() -> None:
    for name, options in LAYERS.items():
        layer = build_part(part(name, **options), 16).bfloat16()
        y, state = layer.stream(torch.randn(2, 3, 16).bfloat16(), layer.init_state(2, 8, dtype=torch.bfloat16))
        assert y.dtype == torch.bfloat16
        assert state["states"].dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("mamba", {"states": 0}, "states=0"),
        ("mamba", {"kernel": 0}, "kernel=0"),
        ("mamba2", {"head_dim": 24}, "heads of 24"),
        ("mamba2", {"head_dim": 16, "groups": 3}, "divide the heads"),
        ("mamba2", {"head_dim": 8, "chunk": 0}, "chunk=0"),
        ("short_convolution", {"kernel": 0}, "at least 1"),
    ],
)
def test_sizes_that_cannot_be_are_refused(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        build_part(part(name, **options), 16)
