"""Cutting a sequence into blocks, and softmax attention over several groups of keys at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor
from torch.nn import functional as F

from formwright.nn.functional.attention import Tap, attend


def split_axis(x: Shaped[Tensor, "*shape"], axis: int, *sizes: int) -> Shaped[Tensor, "*longer"]:
    """``x`` with the axis ``axis``, counted from the front, in several of these sizes; one may be -1, what is left."""
    if -1 in sizes:  # which PyTorch does not work out where there are no samples
        left = x.shape[axis] // -math.prod(sizes)
        sizes = tuple(left if size == -1 else size for size in sizes)
    return x.reshape(*x.shape[:axis], *sizes, *x.shape[axis + 1 :])


def split_blocks(x: Shaped[Tensor, "batch time *rest"], block: int) -> Shaped[Tensor, "batch blocks block *rest"]:
    """Blocks of ``block`` tokens; zeros (or false) fill the last one."""
    missing = -x.shape[1] % block
    if missing:
        x = F.pad(x, [0, 0] * (x.ndim - 2) + [0, missing])
    return split_axis(x, 1, -1, block)


def real_tokens(mask: Bool[Tensor, "batch time"] | None, x: Shaped[Tensor, "batch time *rest"]) -> Tensor:
    """The mask, or that all tokens are real: ``(batch or 1, time)``."""
    return x.new_ones(1, x.shape[1], dtype=torch.bool) if mask is None else mask


def scores(
    q: Float[Tensor, "batch blocks queries heads channels"], k: Float[Tensor, "batch blocks keys heads channels"]
) -> Float[Tensor, "batch heads blocks queries keys"]:
    """``q kᵀ / sqrt(channels)`` inside each block."""
    return torch.einsum("bnqhc,bnkhc->bhnqk", q * q.shape[-1] ** -0.5, k)


def average(
    weights: Float[Tensor, "batch heads blocks queries keys"], v: Float[Tensor, "batch blocks keys heads channels"]
) -> Float[Tensor, "batch blocks queries heads channels"]:
    """``weights v`` inside each block."""
    return torch.einsum("bhnqk,bnkhc->bnqhc", weights, v)


def forbid(logits: Tensor, allowed: Tensor) -> Tensor:
    """The lowest number where a key may not be seen: finite, so that a query of padding, which sees none, stays so."""
    return logits.masked_fill(~allowed, torch.finfo(logits.dtype).min)


def attend_in_blocks(
    q: Float[Tensor, "batch blocks queries heads channels"],
    k: Float[Tensor, "batch blocks keys heads channels"],
    v: Float[Tensor, "batch blocks keys heads channels"],
    allowed: Bool[Tensor, "rows blocks places keys"],
    tap: Tap | None = None,
) -> Float[Tensor, "batch blocks queries heads channels"]:
    """``softmax(q kᵀ / sqrt(channels)) v`` inside each block, no scores kept; who may see nothing gets zeros.

    Args:
        allowed: true where a query may see a key; one row and one place stand for all.
        tap: see :func:`~formwright.nn.functional.attention.attend`; every block is a row of the batch.
    """
    batch, blocks, queries = q.shape[:3]
    mask = allowed.expand(batch, blocks, queries, -1).flatten(0, 1)[:, None]
    q, k, v = (x.flatten(0, 1).transpose(1, 2) for x in (q, k, v))
    y = attend(q, k, v, mask, tap=tap)
    return split_axis(y.transpose(1, 2), 0, batch, blocks)


Group = tuple[Tensor, Callable[[Tensor], Tensor]]


def attend_jointly(groups: Sequence[Group]) -> Tensor:
    """One softmax over several groups of keys: ``sum_g average_g(softmax([logits_1, logits_2, ...])_g)``.

    Args:
        groups: the logits of a group ``(..., keys)`` and what turns their weights into an average of its values. The
            softmax is computed in float32 at least.
    """
    logits = torch.cat([one.float() if one.dtype == torch.bfloat16 else one for one, _ in groups], dim=-1)
    weights = torch.split(logits.softmax(-1).to(groups[0][0].dtype), [one.shape[-1] for one, _ in groups], dim=-1)
    parts = [collect(weight) for weight, (_, collect) in zip(weights, groups, strict=True)]
    return torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]
