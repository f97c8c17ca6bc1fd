"""Softmax attention inside blocks, and to a mixture of the other blocks that a learned sorting brings there."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from formwright.nn.functional.blocks import (
    attend_jointly,
    average,
    forbid,
    join_blocks,
    real_tokens,
    scores,
    split_blocks,
)

_FORBIDDEN = -1e9


def sinkhorn(
    logits: Float[Tensor, "*batch rows columns"],
    iterations: int,
    real: Bool[Tensor, "*#batch rows columns"] | None = None,
) -> Float[Tensor, "*batch rows columns"]:
    """Rows and columns divided by their sums in turn: towards a doubly stochastic matrix; rows have the last word.

    With no iterations it is a softmax over each row. Entries that are not ``real`` take no part and become zero.

    Source: Sparse Sinkhorn Attention, arXiv 2002.11296.
    """

    def keep(x: Tensor) -> Tensor:
        return x if real is None else x.masked_fill(~real, _FORBIDDEN)

    logits = keep(logits)
    for _ in range(iterations):
        logits = keep(logits - logits.logsumexp(-1, keepdim=True))
        logits = keep(logits - logits.logsumexp(-2, keepdim=True))
    weights = logits.softmax(-1)
    return weights if real is None else weights * real


def sorted_block_attention(
    q: Float[Tensor, "batch time heads channels"],
    k: Float[Tensor, "batch time heads channels"],
    v: Float[Tensor, "batch time heads channels"],
    sorting: Float[Tensor, "batch heads blocks blocks"],
    *,
    block: int,
    mask: Bool[Tensor, "batch time"] | None = None,
) -> Float[Tensor, "batch time heads channels"]:
    """The sum of two attentions of each block: to its own keys, and to ``sum_m sorting[n, m] keys of block m``.

    Args:
        sorting: the share of each block (columns) in what is brought to each block (rows).
        block: tokens of a block; the last may be shorter.
        mask: true for real tokens. What is brought stands at the places of a block that are real in some block.

    Source: Sparse Sinkhorn Attention, arXiv 2002.11296; the sum is that of the Long Range Arena's code.
    """
    time = q.shape[1]
    real = split_blocks(real_tokens(mask, q), block)
    queries, keys, values = (split_blocks(x, block) for x in (q, k, v))
    keys, values = (x * real[..., None, None] for x in (keys, values))
    brought_keys, brought_values = (torch.einsum("bhnm,bmkhc->bnkhc", sorting, x) for x in (keys, values))
    own = forbid(scores(queries, keys), real[:, None, :, None])
    brought = forbid(scores(queries, brought_keys), real.any(1)[:, None, None, None])
    y = attend_jointly([(own, lambda weights: average(weights, values))])
    y = y + attend_jointly([(brought, lambda weights: average(weights, brought_values))])
    return join_blocks(y, time)
