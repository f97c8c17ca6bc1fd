"""Softmax attention without parameters: whole, causal, within a window, and against a cache."""

from __future__ import annotations

import math
from contextlib import nullcontext

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from formwright.nn.functional.transforms import mapped


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


def biased_attention(
    q: Float[Tensor, "batch heads time channels"],
    k: Float[Tensor, "batch heads keys channels"],
    v: Float[Tensor, "batch heads keys value_channels"],
    bias: Tensor | None,
    *,
    scale: float | None = None,
) -> Float[Tensor, "batch heads time value_channels"]:
    """``softmax(scale q kᵀ + bias) v`` with a bias that is learned, or says by a Boolean who may be seen."""
    # Where the function is mapped, PyTorch would choose a form that gives the bias no gradient.
    with sdpa_kernel(SDPBackend.MATH) if mapped() else nullcontext():
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)


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
    blocks = math.ceil(time / window)
    reach = (1, 0) if causal else (1, 1)  # blocks before and after
    padding = blocks * window - time
    around = (0, 0, 0, 0, reach[0] * window, reach[1] * window + padding)
    keys, values = (F.pad(x, around).unfold(1, (1 + sum(reach)) * window, window) for x in (k, v))
    real = torch.ones(1, time, dtype=torch.bool, device=q.device) if mask is None else mask
    real = F.pad(real, around[4:]).unfold(1, (1 + sum(reach)) * window, window)  # (rows, blocks, keys)
    place = torch.arange(window, device=q.device)[:, None] + reach[0] * window
    distance = place - torch.arange(keys.shape[-1], device=q.device)
    near = (distance < window) & ((distance >= 0) if causal else (distance > -window))
    allowed = (real[:, :, None] & near).expand(batch, -1, -1, -1).flatten(0, 1)[:, None]
    y = softmax_attention(
        F.pad(q, (0, 0, 0, 0, 0, padding)).view(batch * blocks, window, *q.shape[2:]),
        keys.flatten(0, 1).permute(0, 3, 1, 2),
        values.flatten(0, 1).permute(0, 3, 1, 2),
        allowed=allowed,
        dropout=dropout,
    )
    return y.reshape(batch, blocks * window, *y.shape[2:])[:, :time]
