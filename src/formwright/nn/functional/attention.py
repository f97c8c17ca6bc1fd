"""Softmax attention without parameters: whole, causal, within a window, and against a cache."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor
from torch.nn import functional as F

from formwright.nn.functional.any_length import any_length, first_tokens, gather_blocks


def softmax_attention(
    q: Float[Tensor, "batch time heads channels"],
    k: Float[Tensor, "batch keys kv_heads channels"],
    v: Float[Tensor, "batch keys kv_heads value_channels"],
    *,
    allowed: Bool[Tensor, "..."] | None = None,
    causal: bool = False,
    dropout: float = 0.0,
) -> Float[Tensor, "batch time heads value_channels"]:
    """``softmax(q kᵀ / sqrt(channels)) v``; query head ``h`` reads key head ``h // (heads / kv_heads)``.

    Args:
        allowed: true where a query may see a key, broadcast to ``(batch, heads, time, keys)``; a query that may see
            none gets zeros.
        causal: query ``t`` sees keys up to ``t`` only.
        dropout: share of attention weights that are dropped.
    """
    if causal and allowed is not None:
        allowed = allowed & causal_mask(q.shape[1], device=q.device)
    y = F.scaled_dot_product_attention(
        q.transpose(1, 2),
        k.transpose(1, 2),
        v.transpose(1, 2),
        attn_mask=allowed,
        is_causal=causal and allowed is None,
        dropout_p=dropout,
        enable_gqa=q.shape[2] != k.shape[2],
    )
    return y.transpose(1, 2)


def causal_mask(
    time: int, window: int | None = None, *, device: torch.device | None = None
) -> Bool[Tensor, "time time"]:
    """True where key ``s`` may be seen by query ``t``: ``t - window < s <= t``."""
    mask = torch.ones(time, time, dtype=torch.bool, device=device).tril()
    return mask if window is None else mask.triu(1 - window)


def sliding_window_attention(
    q: Float[Tensor, "batch time heads channels"],
    k: Float[Tensor, "batch time kv_heads channels"],
    v: Float[Tensor, "batch time kv_heads value_channels"],
    window: int,
    *,
    causal: bool = True,
    mask: Bool[Tensor, "batch time"] | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "batch time heads value_channels"]:
    """Each query sees the ``window`` latest keys, itself included, or keys fewer than ``window`` places away.

    Queries are taken in blocks of ``window``, whose keys lie in their own and the neighbouring blocks, so that time and
    memory grow with ``time * window``.

    Args:
        window: how far a query sees; ``causal`` sees backwards only.
        mask: true for real tokens.
    """
    batch, time = q.shape[:2]
    after = 0 if causal else window  # keys of the blocks before and after each, as many as are seen
    real = torch.ones(1, time, dtype=torch.bool, device=q.device) if mask is None else mask
    queries = _blocks(q, window)
    keys, values, real = (_blocks(x, window, window, after) for x in (k, v, real))
    place = torch.arange(window, device=q.device)[:, None] + window
    distance = place - torch.arange(keys.shape[2], device=q.device)
    near = (distance < window) & ((distance >= 0) if causal else (distance > -window))
    allowed = (real[:, :, None] & near).expand(batch, -1, -1, -1).flatten(0, 1)[:, None]
    y = softmax_attention(
        queries.flatten(0, 1), keys.flatten(0, 1), values.flatten(0, 1), allowed=allowed, dropout=dropout
    )
    if any_length(time):
        return first_tokens(y.unflatten(0, (batch, -1)).flatten(1, 2), time)
    return y.reshape(batch, -1, *y.shape[2:])[:, :time]


def _blocks(x: Tensor, block: int, before: int = 0, after: int = 0) -> Shaped[Tensor, "batch blocks span *rest"]:
    """Blocks of tokens ``(batch, time, ...)`` and their surroundings, zeros (or false) where there is nothing."""
    time = x.shape[1]
    if any_length(time):
        return gather_blocks(x, block, before, after)
    around = (0, 0) * (x.ndim - 2) + (before, after + -time % block)
    return F.pad(x, around).unfold(1, before + block + after, block).movedim(-1, 2)
