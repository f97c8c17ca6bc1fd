"""Softmax attention without parameters: whole, causal, within a window, and against a cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from formwright.nn.functional.any_length import any_length, first_tokens, gather_blocks
from formwright.nn.functional.transforms import mapped

#: The values that :func:`attend` shows to those who listen.
SOFTMAX_TAPS = ("scores", "weights")
#: Scores that are held at once where attention is computed step by step in training; more would take much memory.
MOST_SCORES = 2**24
#: Shows a value by its name to those who listen, and returns what they put in its place.
Tap = Callable[[str, Tensor], Tensor]


def attend(
    q: Float[Tensor, "batch heads time channels"],
    k: Float[Tensor, "batch kv_heads keys channels"],
    v: Float[Tensor, "batch kv_heads keys value_channels"],
    mask: Tensor | None = None,
    *,
    causal: bool = False,
    scale: float | None = None,
    dropout: float = 0.0,
    tap: Tap | None = None,
) -> Float[Tensor, "batch heads time value_channels"]:
    """``softmax(scale q kᵀ + mask) v`` by PyTorch's fused kernel, or step by step while somebody listens.

    Step by step as well where that is faster: see :func:`_steps_are_faster`.

    Args:
        mask: added to the scores, or true where a query may see a key; a query that may see none gets zeros.
        causal: query ``t`` sees keys up to ``t`` only.
        scale: ``1 / sqrt(channels)`` if unset.
        dropout: share of attention weights that are dropped.
        tap: is shown the ``scores`` before the softmax, scaled and with the mask, and the ``weights`` after it, each
            ``(batch, heads, time, keys)``.
    """
    grouped = q.shape[1] != k.shape[1]
    if grouped and tap is None and not causal and _one_query_of_all_heads(q, mask):
        # ONNX knows no groups and would repeat the keys: here a group's queries stand where those of a text would.
        y = attend(q.reshape(q.shape[0], k.shape[1], -1, q.shape[3]), k, v, mask, scale=scale, dropout=dropout)
        return y.reshape(*q.shape[:3], v.shape[3])
    if tap is None and not _steps_are_faster(q, k, v):
        # Where the function is mapped, PyTorch would choose a form that gives a learned mask no gradient.
        attention = _mapped_attention if mapped() else F.scaled_dot_product_attention
        return attention(q, k, v, attn_mask=mask, is_causal=causal, dropout_p=dropout, scale=scale, enable_gqa=grouped)
    if grouped:
        k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    scores = q @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale)
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
    if mask is not None and mask.dtype is torch.bool:
        scores = scores.masked_fill(~mask, -torch.inf)
    elif mask is not None:
        scores = scores + mask
    scores = scores if tap is None else tap("scores", scores)
    if mask is not None:
        blind = (scores == -torch.inf).all(-1, keepdim=True)
        weights = scores.masked_fill(blind, 0.0).softmax(-1).masked_fill(blind, 0.0)
    else:
        weights = scores.softmax(-1)
    weights = weights if tap is None else tap("weights", weights)
    return F.dropout(weights, dropout) @ v


def _steps_are_faster(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether the fused kernel is slower here: its backward pass on CPUs, in bfloat16.

    Measured on two cores with AMX, forward and backward: 21 ms against 4 ms for 32 texts of 24 tokens and 12 heads, 37
    against 15 ms for 16 pictures of 197 tokens and 6 heads, 40 against 22 ms for 4 texts of 512 tokens and 8 heads.
    """
    if q.device.type != "cpu" or not torch.is_grad_enabled() or torch.compiler.is_compiling() or mapped():
        return False
    autocast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") is torch.bfloat16
    if not (autocast or q.dtype is torch.bfloat16) or not (q.requires_grad or k.requires_grad or v.requires_grad):
        return False
    return q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2] <= MOST_SCORES


@sdpa_kernel(SDPBackend.MATH)
def _mapped_attention(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, **options)


def _one_query_of_all_heads(q: Tensor, mask: Tensor | None) -> bool:
    """Whether a program is exported for one token at a time, whose heads all see the same keys."""
    if not torch.compiler.is_exporting() or any_length(q.shape[2]) or q.shape[2] != 1:
        return False
    return mask is None or (mask.ndim == 4 and mask.shape[1] == 1)


def softmax_attention(
    q: Float[Tensor, "batch time heads channels"],
    k: Float[Tensor, "batch keys kv_heads channels"],
    v: Float[Tensor, "batch keys kv_heads value_channels"],
    *,
    allowed: Bool[Tensor, "..."] | None = None,
    causal: bool = False,
    dropout: float = 0.0,
    tap: Tap | None = None,
    bias: Float[Tensor, "#batch heads time keys"] | None = None,
    scale: float | None = None,
) -> Float[Tensor, "batch time heads value_channels"]:
    """``softmax(scale q kᵀ + bias) v``; query head ``h`` reads key head ``h // (heads / kv_heads)``.

    Args:
        allowed: true where a query may see a key, broadcast to ``(batch, heads, time, keys)``; a query that may see
            none gets zeros.
        causal: query ``t`` sees keys up to ``t`` only.
        dropout: share of attention weights that are dropped.
        tap: see :func:`attend`.
        bias: added to the scores.
        scale: factor on the products; ``1 / sqrt(channels)`` if unset.
    """
    if causal and (allowed is not None or bias is not None):
        earlier = causal_mask(q.shape[1], device=q.device)
        allowed = earlier if allowed is None else allowed & earlier
    mask = allowed
    if bias is not None:
        bias = bias.to(q.dtype)
        mask = bias if allowed is None else bias.masked_fill(~allowed, -torch.inf)
    y = attend(
        q.transpose(1, 2),
        k.transpose(1, 2),
        v.transpose(1, 2),
        mask,
        causal=causal and mask is None,
        scale=scale,
        dropout=dropout,
        tap=tap,
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
    tap: Tap | None = None,
) -> Float[Tensor, "batch time heads value_channels"]:
    """Each query sees the ``window`` latest keys, itself included, or keys fewer than ``window`` places away.

    Queries are taken in blocks of ``window``, whose keys lie in their own and the neighbouring blocks, so that time and
    memory grow with ``time * window``.

    Args:
        window: how far a query sees; ``causal`` sees backwards only.
        mask: true for real tokens.
        tap: see :func:`attend`; each block of queries is a row of the batch, and sees its block and those around.
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
        queries.flatten(0, 1), keys.flatten(0, 1), values.flatten(0, 1), allowed=allowed, dropout=dropout, tap=tap
    )
    y = y.reshape(batch, queries.shape[1] * window, *y.shape[2:])
    return first_tokens(y, time) if any_length(time) else y[:, :time]


def _blocks(x: Tensor, block: int, before: int = 0, after: int = 0) -> Shaped[Tensor, "batch blocks span *rest"]:
    """Blocks of tokens ``(batch, time, ...)`` and their surroundings, zeros (or false) where there is nothing."""
    time = x.shape[1]
    if any_length(time):
        return gather_blocks(x, block, before, after)
    around = (0, 0) * (x.ndim - 2) + (before, after + -time % block)
    return F.pad(x, around).unfold(1, before + block + after, block).movedim(-1, 2)
