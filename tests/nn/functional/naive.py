"""Attention as its definition says it, token by token pair, and how fast forms are held to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4}
#: No multiple of any block below, a multiple of some, a single token, shorter than a block.
LENGTHS = (1, 2, 7, 12, 17, 40)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def heads(time: int, count: int = 3, batch: int = 2) -> list[Tensor]:
    """``count`` random ``(batch, time, heads, channels)``."""
    return [normal(batch, time, 2, 4, seed=number) for number in range(count)]


def some_mask(time: int, batch: int = 2) -> Tensor:
    """About two tokens of three are real, the first of all rows among them."""
    mask = torch.rand(batch, time, generator=torch.Generator().manual_seed(9)) < 0.66
    mask[:, 0] = True
    return mask


def naive_attention(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor) -> Tensor:
    """``softmax(q kᵀ / sqrt(channels)) v`` over the keys ``allowed`` ``(batch, time, keys)``.

    Padding that may see nothing sees all, so that it has a number; nobody compares it.
    """
    allowed = allowed | ~allowed.any(-1, keepdim=True)
    logits = torch.einsum("bqhc,bkhc->bhqk", q, k) / q.shape[-1] ** 0.5
    weights = logits.masked_fill(~allowed[:, None], -torch.inf).softmax(-1)
    return torch.einsum("bhqk,bkhc->bqhc", weights, v)


def hold(
    fast: Callable[..., Tensor],
    naive: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    mask: Tensor | None = None,
    dtypes: Sequence[torch.dtype] = (torch.float64, torch.float32),
) -> None:
    """Outputs of real tokens and all gradients of ``fast`` are those of ``naive``, relative to their largest value."""
    expected = _results(naive, inputs, mask)
    scale = max(theirs.abs().max() for theirs in expected)
    for dtype in dtypes:
        found = _results(fast, [x.to(dtype) for x in inputs], mask)
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.dtype is dtype
            assert torch.isfinite(ours).all()
            assert (ours.double() - theirs).abs().max() <= TOLERANCES[dtype] * scale


def _results(function: Callable[..., Tensor], inputs: Sequence[Tensor], mask: Tensor | None) -> list[Tensor]:
    inputs = [x.detach().clone().requires_grad_() for x in inputs]
    y = function(*inputs)
    if mask is not None:
        y = y[mask]
    (y * normal(*y.shape, seed=5).to(y.dtype)).sum().backward()
    return [y.detach(), *(x.grad for x in inputs)]  # type: ignore[list-item]
