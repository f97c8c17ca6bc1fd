"""Causal, grouped, windowed and rotary attention against a naive form, and streaming against the parallel form."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from formwright.errors import UserError
from formwright.nn import Context, build_part, part
from formwright.nn.functional.attention import causal_mask, sliding_window_attention, softmax_attention
from formwright.nn.functional.rotary import Rotary, rotary_frequencies
from formwright.nn.token_mixers.attention import Attention

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {"heads": 4},
    "grouped": {"heads": 4, "kv_heads": 2},
    "rotary": {"heads": 2, "rotary": {"base": 100.0}},
    "partly-rotary": {"heads": 2, "rotary": {"fraction": 0.5}},
    "window": {"heads": 2, "window": 3},
    "all": {
        "heads": 4,
        "kv_heads": 2,
        "window": 4,
        "rotary": {"scaling": {"factor": 2.0}},
        "qk_norm": part("rms_norm"),
        "qkv_bias": True,
    },
}
each_kind = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


def build(options: dict[str, Any], **changes: Any) -> Attention:
    torch.manual_seed(0)
    module = build_part(part("attention", **{"causal": True, **options, **changes}), 16).double().eval()
    assert isinstance(module, Attention)
    return module


def naive(module: Attention, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """A loop over rows, heads and queries."""
    q, k, v = module._project(x, torch.arange(x.shape[1])[None])
    y = torch.zeros_like(q)
    window = x.shape[1] if module.window is None else module.window
    for row in range(x.shape[0]):
        for head in range(module.heads):
            for t in range(x.shape[1]):
                last = t if module.causal else t + window - 1
                seen = [s for s in range(x.shape[1]) if t - window < s <= last and (mask is None or bool(mask[row, s]))]
                scores = torch.stack([q[row, t, head] @ k[row, s, head // module.group] for s in seen])
                weights = (scores / math.sqrt(module.head_dim)).softmax(0)
                y[row, t, head] = sum(w * v[row, s, head // module.group] for w, s in zip(weights, seen, strict=True))
    return module.proj(y.flatten(2))


@each_kind
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("masked", [False, True])
def test_equals_the_naive_form(options: dict[str, Any], causal: bool, masked: bool) -> None:
    module = build(options, causal=causal)
    x = torch.randn(2, 11, 16, dtype=torch.float64)
    mask = None
    if masked:
        mask = torch.ones(2, 11, dtype=torch.bool)
        mask[0, 8:] = False
    y, expected = module(x, Context(mask=mask)), naive(module, x, mask) if not masked else None
    if expected is None:
        assert mask is not None
        real = mask[..., None].expand_as(y)
        both = [naive(module, x[:1, :8]), naive(module, x[1:])]
        torch.testing.assert_close(y[real], torch.cat([both[0].flatten(), both[1].flatten()]), rtol=1e-9, atol=1e-9)
    else:
        torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-9)


@each_kind
@pytest.mark.parametrize("chunks", [(11,), (1,) * 11, (4, 3, 3, 1), (2, 9)], ids=str)
def test_streaming_in_any_chunks_gives_the_parallel_form(options: dict[str, Any], chunks: tuple[int, ...]) -> None:
    module = build(options)
    x = torch.randn(2, 11, 16, dtype=torch.float64)
    state = module.init_state(2, 11, dtype=torch.float64)
    length, outputs = torch.zeros(2, dtype=torch.int64), []
    for chunk in x.split(chunks, dim=1):
        y, state = module.stream(chunk, {**state, "length": length})
        outputs.append(y)
        length = length + chunk.shape[1]
    torch.testing.assert_close(torch.cat(outputs, dim=1), module(x), rtol=1e-9, atol=1e-9)


@each_kind
def test_prompts_of_different_lengths_continue_side_by_side(options: dict[str, Any]) -> None:
    module = build(options)
    prompts = [torch.randn(1, time, 16, dtype=torch.float64) for time in (9, 2, 5)]
    further = [torch.randn(3, time, 16, dtype=torch.float64) for time in (3, 1, 1)]
    kept = torch.tensor([[3, 1, 0], [0, 1, 1], [2, 1, 1]])  # real tokens of each row in each later chunk
    lengths = torch.tensor([9, 2, 5])
    padded = torch.full((3, 9, 16), torch.nan, dtype=torch.float64)
    for row, prompt in enumerate(prompts):
        padded[row, : prompt.shape[1]] = prompt[0]
    state = module.init_state(3, 15, dtype=torch.float64)
    with torch.inference_mode():
        mask = torch.arange(9) < lengths[:, None]
        padded[~mask] = 7.0
        y, state = module.stream(padded, {**state, "length": torch.zeros_like(lengths)}, Context(mask=mask))
        outputs = [[y[row, : lengths[row]]] for row in range(3)]
        sequences = [[prompt[0]] for prompt in prompts]
        for step, chunk in enumerate(further):
            mask = torch.arange(chunk.shape[1]) < kept[:, step, None]
            y, state = module.stream(chunk, {**state, "length": lengths}, Context(mask=mask))
            for row in range(3):
                outputs[row].append(y[row, mask[row]])
                sequences[row].append(chunk[row, mask[row]])
            lengths = lengths + kept[:, step]
        for row in range(3):
            expected = module(torch.cat(sequences[row])[None])[0]
            torch.testing.assert_close(torch.cat(outputs[row]), expected, rtol=1e-9, atol=1e-9)


def test_a_window_bounds_the_cache() -> None:
    module = build({"heads": 2, "window": 3})
    assert module.init_state(2, 1000)["keys"].shape == (2, 3, 2, 8)
    assert build({"heads": 2}).init_state(2, 1000)["keys"].shape == (2, 1000, 2, 8)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("time", "window"), [(7, 3), (6, 3), (1, 4), (5, 1), (8, 8)])
def test_a_sliding_window_equals_a_mask(causal: bool, time: int, window: int) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, time, 2, 4, generator=generator, dtype=torch.float64) for _ in range(3))
    mask = torch.rand(2, time, generator=generator) < 0.7
    mask[:, 0] = True
    near = causal_mask(time, window)
    allowed = mask[:, None, None] & (near if causal else near | near.T)
    expected = softmax_attention(q, k, v, allowed=allowed)
    result = sliding_window_attention(q, k, v, window, causal=causal, mask=mask)
    torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-9)


def test_rotary_scores_depend_on_the_difference_of_places() -> None:
    rotary = Rotary(8)
    q, k = torch.randn(2, 1, 1, 1, 8, dtype=torch.float64)

    def score(query_place: int, key_place: int) -> float:
        places = torch.tensor([[query_place]]), torch.tensor([[key_place]])
        return float((rotary(places[0], q)[0] * rotary(places[1], k)[0]).sum())

    assert score(5, 2) == pytest.approx(score(1_000_005, 1_000_002), abs=1e-6)
    assert score(5, 2) != pytest.approx(score(5, 3), abs=1e-3)


def test_rotary_frequencies_survive_half_precision() -> None:
    rotary = Rotary(8).to(torch.bfloat16)
    assert torch.equal(rotary.frequencies, rotary_frequencies(8))


def test_llama_scaling_slows_long_waves_alone() -> None:
    scaling = {"factor": 8.0, "low_frequency_factor": 1.0, "high_frequency_factor": 4.0, "original_length": 8192}
    ratio = rotary_frequencies(128, base=500_000.0, scaling=scaling) / rotary_frequencies(128, base=500_000.0)
    assert ratio[0] == 1
    assert ratio[-1] == 1 / 8
    assert torch.all(ratio.diff() <= 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 4, "kv_heads": 3}, "kv_heads that divides"),
        ({"heads": 4, "window": 0}, "at least 1"),
        ({"heads": 16, "rotary": {}}, "do not make pairs"),
        ({"heads": 2, "rotary": {"scaling": {"original_length": 2.0}}}, "factor alone"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(options)


def test_a_full_cache_is_refused() -> None:
    module = build({"heads": 2})
    state = module.init_state(1, 4, dtype=torch.float64)
    with pytest.raises(UserError, match="made for 4 tokens, and the sequence now has 5"):
        module.stream(torch.zeros(1, 5, 16, dtype=torch.float64), {**state, "length": torch.zeros(1).long()})
