"""Softmax attention inside blocks, and to every block's summary or along strides besides."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from formwright.nn.functional.any_length import any_length
from formwright.nn.functional.attention import Tap
from formwright.nn.functional.blocks import (
    attend_in_blocks,
    attend_jointly,
    average,
    forbid,
    join_blocks,
    real_tokens,
    scores,
    split_blocks,
)

Tokens = Float[Tensor, "batch time heads channels"]
Keys = Float[Tensor, "batch keys heads channels"]
Mask = Bool[Tensor, "batch time"]


def local_attention(
    q: Tokens,
    k: Tokens,
    v: Tokens,
    *,
    block: int,
    causal: bool = False,
    mask: Mask | None = None,
    tap: Tap | None = None,
) -> Tokens:
    """Each query sees the keys of its own block: ``floor(i / block) = floor(j / block)``; causal, those up to itself.

    Cost grows with ``time * block``.

    Args:
        block: tokens of a block; the last block may be shorter.
        causal: whether a query sees no later key.
        mask: true for real tokens.
        tap: see :func:`~formwright.nn.functional.attention.attend`; every block is a row of the batch.
    """
    time = q.shape[1]
    block = block if any_length(time) else min(block, time)
    queries, keys, values = (split_blocks(x, block) for x in (q, k, v))
    allowed = split_blocks(real_tokens(mask, q), block)[:, :, None] & _within(block, causal, q.device)
    return join_blocks(attend_in_blocks(queries, keys, values, allowed, tap), time)


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
    time, real = q.shape[1], real_tokens(mask, q)
    queries, keys, values = (split_blocks(x[:, leading:], block) for x in (q, k, v))
    real_keys = split_blocks(real[:, leading:], block)
    own = real_keys[:, :, None] & _within(block, causal, q.device)
    number = torch.arange(queries.shape[1], device=q.device)
    others = number[:, None] > number if causal else number[:, None] != number
    last = real_keys[:, None, :, -summary:] & others[..., None]
    first = real[:, None, None, :leading]

    def seen(x: Tensor, blocks: Tensor) -> Tensor:
        """What each block sees: itself, the ends of all blocks, the leading tokens."""
        shared = torch.cat([blocks[:, :, -summary:].flatten(1, 2), x[:, :leading]], dim=1)
        return torch.cat([blocks, shared[:, None].expand(-1, blocks.shape[1], -1, -1, -1)], dim=2)

    allowed = [own, last.flatten(2)[:, :, None], first]
    shape = own.shape[:3]
    y = attend_in_blocks(
        queries, seen(k, keys), seen(v, values), torch.cat([part.expand(*shape, -1) for part in allowed], dim=-1)
    )
    y = join_blocks(y, time - leading)
    return torch.cat([attend_to_all(q[:, :leading], k, v, real), y], dim=1) if leading else y


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
    return join_blocks(y, time)


def _neighbours(x: Tensor, reach: tuple[int, int]) -> Tensor:
    """Each block with those before and after it on one axis: ``(batch, blocks, (1 + reach) * block, ...)``."""
    blocks = x.shape[1]
    padded = F.pad(x, [0, 0] * (x.ndim - 2) + list(reach))
    return torch.cat([padded[:, shift : shift + blocks] for shift in range(1 + sum(reach))], dim=2)
