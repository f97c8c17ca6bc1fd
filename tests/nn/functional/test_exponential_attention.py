"""Attention by exponential features against the logarithms of all its weights, for exponents of any size."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from torch import Tensor

from formwright.nn import Context, build_part, part
from formwright.nn.functional import exponential_attention as module
from formwright.nn.functional.exponential_attention import causal_exponential_attention, exponential_attention
from formwright.nn.functional.random_features import orthogonal_gaussian, positive_softmax_exponents
from tests.nn.functional.naive import LENGTHS, heads, hold, normal, some_mask

#: Largest difference over the reference's deviation; half precision rounds what comes in and goes out.
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 4e-2}
causality = pytest.mark.parametrize("causal", [False, True], ids=["both-sides", "causal"])


def naive(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, causal: bool) -> Tensor:
    """All pairs written out, their weights by logarithms; tokens that see nothing get zeros."""
    logits = torch.logsumexp(q.transpose(1, 2)[:, :, :, None] + k.transpose(1, 2)[:, :, None], dim=-1)
    allowed = mask[:, None, None].expand_as(logits)
    allowed = allowed.tril() if causal else allowed
    weights = logits.masked_fill(~allowed, -torch.inf).softmax(-1).masked_fill(~allowed, 0)
    return torch.einsum("bhqk,bkhc->bqhc", weights, v)


def fast(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    if causal:
        return causal_exponential_attention(q, k, v, mask=mask)[0]
    return exponential_attention(q, k, v, mask=mask)


def performer(q: Tensor, k: Tensor, v: Tensor, projection: Tensor, mix) -> Tensor:  # type: ignore[no-untyped-def]
    """FAVOR+ of queries and keys, mixed as ``mix`` says."""
    q, k = (positive_softmax_exponents(x, projection, query=query) for x, query in ((q, True), (k, False)))
    return mix(q, k, v)


@pytest.mark.parametrize("time", LENGTHS)
@causality
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("size", [1.0, 40.0], ids=["small", "large"])
def test_outputs_and_gradients_are_those_of_all_pairs(time: int, causal: bool, masked: bool, size: float) -> None:
    mask = some_mask(time) if masked else None
    real = torch.ones(2, time, dtype=torch.bool) if mask is None else mask
    q, k, v = heads(time)
    hold(
        functools.partial(fast, mask=mask, causal=causal),
        functools.partial(naive, mask=real, causal=causal),
        [size * q, size * k, v],
        real,
    )


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("deviation", [1.0, 3.0, 4.0, 8.0])
@causality
def test_performer_with_queries_and_keys_of_any_size(deviation: float, dtype: torch.dtype, causal: bool) -> None:
    """Features of heads of 64 are below exp(-100) then, where any constant beside them decides the result."""
    torch.manual_seed(0)
    projection = orthogonal_gaussian(128, 64)
    q, k, v = (normal(2, 70, 2, 64, seed=seed) for seed in range(3))
    given = [x.to(dtype) for x in (deviation * q, deviation * k, v)]
    everything = torch.ones(2, 70, dtype=torch.bool)
    y = performer(*given, projection, functools.partial(fast, mask=None, causal=causal))
    expected = performer(
        *(x.double() for x in given), projection.double(), functools.partial(naive, mask=everything, causal=causal)
    )
    assert y.dtype is dtype
    assert (y.double() - expected).abs().max() <= TOLERANCES[dtype] * expected.std()


@pytest.mark.parametrize("size", [1.0, 40.0], ids=["small", "large"])
@pytest.mark.parametrize("rising", [1.0, -1.0], ids=["rising", "falling"])
def test_a_state_continues_in_any_division(size: float, rising: float) -> None:
    q, k, v = heads(40)
    k = size * (k + rising * torch.linspace(0, 4, 40).view(1, -1, 1, 1))
    mask = some_mask(40)
    expected = naive(size * q, k, v, mask, True)
    for pieces in ([1] * 40, [7, 1, 32], [40]):
        state, outputs = (torch.zeros(2, 2, 4, 5, dtype=torch.float64), torch.zeros(2, 2, 4, dtype=torch.float64)), []
        for some in zip(*(x.split(pieces, dim=1) for x in (size * q, k, v, mask)), strict=True):
            y, state = causal_exponential_attention(*some[:3], mask=some[3], initial_state=state)
            outputs.append(y)
        torch.testing.assert_close(torch.cat(outputs, dim=1), expected, rtol=1e-9, atol=1e-9)


def test_both_forms_are_used_and_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = heads(40)
    asked: list[bool] = []
    mild = module._mild
    monkeypatch.setattr(module, "_mild", lambda rise: asked.append(mild(rise)) or asked[-1])
    shared = causal_exponential_attention(q, k, v)[0]
    causal_exponential_attention(40 * q, 40 * k, v)
    assert asked == [True, False]
    monkeypatch.setattr(module, "_mild", lambda rise: False)
    torch.testing.assert_close(causal_exponential_attention(q, k, v)[0], shared, rtol=1e-12, atol=1e-12)


def test_keys_that_nobody_may_see_do_not_matter_however_large() -> None:
    q, k, v = heads(12)
    mask = torch.arange(12).expand(2, 12) < 8
    k[:, 8:] += 1e6
    for causal in (False, True):
        expected = fast(q[:, :8], k[:, :8], v[:, :8], None, causal)
        torch.testing.assert_close(fast(q, k, v, mask, causal)[:, :8], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_a_stream_of_large_tokens_is_as_the_whole(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    mixer = build_part(part("performer_attention", heads=2, features=32, causal=True), 64).to(dtype)
    x = 10 * math.sqrt(3) * torch.randn(2, 30, 64).to(dtype)  # queries and keys of a deviation of 10
    with torch.inference_mode():
        expected = mixer(x)
        state, pieces = mixer.init_state(2, 30, dtype=dtype), []
        for first in (0, *range(5, 30)):
            piece = x[:, first : 5 if first == 0 else first + 1]
            y, state = mixer.stream(piece, {**state, "length": torch.full((2,), first)}, Context())
            pieces.append(y)
    assert (torch.cat(pieces, dim=1) - expected).abs().max() <= TOLERANCES[dtype] * expected.std()
