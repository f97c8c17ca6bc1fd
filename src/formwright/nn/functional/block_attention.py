"""Softmax attention inside blocks, and to every block's summary or along strides besides."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from formwright.nn.functional.blocks import (
    attend_jointly,
    average,
    forbid,
    real_tokens,
    scores,
    split_axis,
    split_blocks,
)

Tokens = Float[Tensor, "batch time heads channels"]
Keys = Float[Tensor, "batch keys heads channels"]
Mask = Bool[Tensor, "batch time"]


def local_attention(
    q: Tokens, k: Tokens, v: Tokens, *, block: int, causal: bool = False, mask: Mask | None = None
) -> Tokens:
    """Each query sees the keys of its own block: ``floor(i / block) = floor(j / block)``; causal, those up to itself.

    Cost grows with ``time * block``.

    Args:
        block: tokens of a block; the last block may be shorter.
        causal: whether a query sees no later key.
        mask: true for real tokens.
    """
    time = q.shape[1]
    block = min(block, time)
    queries, keys, values = (split_blocks(x, block).transpose(2, 3).flatten(0, 1) for x in (q, k, v))
    real = split_blocks(real_tokens(mask, q), block)
    allowed = real[:, :, None] & _within(block, causal, q.device)
    allowed = allowed | torch.eye(block, dtype=torch.bool, device=q.device)  # nobody is left with nothing to see
    allowed = allowed.expand(q.shape[0], -1, -1, -1).flatten(0, 1)[:, None]
    y = F.scaled_dot_product_attention(queries, keys, values, attn_mask=allowed)
    return split_axis(y, 0, len(q), -1).transpose(2, 3).flatten(1, 2)[:, :time]


def _within(block: int, causal: bool, device: torch.device) -> Tensor:
    seen = torch.ones(block, block, dtype=torch.bool, device=device)
    return seen.tril() if causal else seen


def fixed_attention(
    q: Tokens,
    k: Tokens,
    v: Tokens,
    *,
    block: int,
    summary: int,
    causal: bool = False,
    mask: Mask | None = None,
    leading: int = 0,
) -> Tokens:
    """Each query sees its own block and the last ``summary`` keys of every other; causal, of earlier ones alone.

    The first ``leading`` tokens (class tokens) belong to no block: they see all and are seen by all. Cost grows with
    ``time * (block + summary * time / block)``.

    Source: the "fixed" pattern of Generating Long Sequences with Sparse Transformers, arXiv 1904.10509.
    """
    if leading:
        return _with_leading(q, k, v, leading, mask, block=block, summary=summary)
    time = q.shape[1]
    queries, keys, values = (split_blocks(x, block) for x in (q, k, v))
    real = split_blocks(real_tokens(mask, q), block)
    own, last = _fixed_groups(queries, keys, values, real, summary, causal)
    return attend_jointly([own, last]).flatten(1, 2)[:, :time]


def _fixed_groups(queries: Tensor, keys: Tensor, values: Tensor, real: Tensor, summary: int, causal: bool):  # type: ignore[no-untyped-def]
    blocks, block = queries.shape[1:3]
    own = forbid(
        scores(queries, keys),
        real[:, None, :, None] & _within(block, causal, queries.device),
    )
    last_keys, last_values = (x[:, :, -summary:].flatten(1, 2) for x in (keys, values))
    number = torch.arange(blocks, device=queries.device)
    others = number[:, None] > number if causal else number[:, None] != number
    seen = others.repeat_interleave(summary, 1)[None] & real[:, :, -summary:].flatten(1)[:, None]
    last = forbid(
        torch.einsum("bnqhc,bkhc->bhnqk", queries * queries.shape[-1] ** -0.5, last_keys), seen[:, None, :, None]
    )
    return (
        (own, lambda weights: average(weights, values)),
        (last, lambda weights: torch.einsum("bhnqk,bkhc->bnqhc", weights, last_values)),
    )


def _with_leading(q: Tensor, k: Tensor, v: Tensor, leading: int, mask: Mask | None, *, block: int, summary: int):  # type: ignore[no-untyped-def]
    real = real_tokens(mask, q)
    queries, keys, values = (split_blocks(x[:, leading:], block) for x in (q, k, v))
    own, last = _fixed_groups(queries, keys, values, split_blocks(real[:, leading:], block), summary, False)
    to_first = torch.einsum("bnqhc,bkhc->bhnqk", queries * queries.shape[-1] ** -0.5, k[:, :leading])
    first = (to_first, lambda weights: torch.einsum("bhnqk,bkhc->bnqhc", weights, v[:, :leading]))
    y = attend_jointly([own, last, first]).flatten(1, 2)[:, : q.shape[1] - leading]
    return torch.cat([attend_to_all(q[:, :leading], k, v, real), y], dim=1)


def attend_to_all(q: Tokens, k: Keys, v: Keys, real: Bool[Tensor, "rows keys"]) -> Tokens:
    """``softmax(q kᵀ / sqrt(channels)) v`` over all real keys."""
    y = F.scaled_dot_product_attention(
        q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=real[:, None, None]
    )
    return y.transpose(1, 2)


def strided_attention(
    q: Tokens, k: Tokens, v: Tokens, *, stride: int, causal: bool = False, mask: Mask | None = None
) -> Tokens:
    """Each query sees keys fewer than ``stride`` places away, and those at any multiple of ``stride`` places.

    Causal, earlier ones only. Cost grows with ``time * (2 stride + time / stride)``, three strides where not causal.

    Source: the "strided" pattern of Generating Long Sequences with Sparse Transformers, arXiv 1904.10509.
    """
    time = q.shape[1]
    queries, keys, values = (split_blocks(x, stride) for x in (q, k, v))
    real = split_blocks(real_tokens(mask, q), stride)
    reach = (1, 0) if causal else (1, 1)
    near_keys, near_values, near_real = (_neighbours(x, reach) for x in (keys, values, real))
    place = torch.arange(stride, device=q.device)
    distance = place[:, None] + stride - torch.arange(near_keys.shape[2], device=q.device)
    near = (distance < stride) & ((distance >= 0) if causal else (distance > -stride))
    own = forbid(scores(queries, near_keys), near_real[:, None, :, None] & near)
    blocks = queries.shape[1]
    number = torch.arange(blocks, device=q.device)
    others = number[:, None] > number if causal else number[:, None] != number
    column = torch.einsum("bnqhc,bmqhc->bhnqm", queries * q.shape[-1] ** -0.5, keys)
    # (batch, query's block, place in it, key's block)
    seen = others[None, :, None] & real.transpose(1, 2)[:, None]
    column = forbid(column, seen[:, None])
    y = attend_jointly(
        [
            (own, lambda weights: average(weights, near_values)),
            (column, lambda weights: torch.einsum("bhnqm,bmqhc->bnqhc", weights, values)),
        ]
    )
    return y.flatten(1, 2)[:, :time]


def _neighbours(x: Tensor, reach: tuple[int, int]) -> Tensor:
    """Each block with those before and after it on one axis: ``(batch, blocks, (1 + reach) * block, ...)``."""
    blocks = x.shape[1]
    padded = F.pad(x, [0, 0] * (x.ndim - 2) + list(reach))
    return torch.cat([padded[:, shift : shift + blocks] for shift in range(1 + sum(reach))], dim=2)
