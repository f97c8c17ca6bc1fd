"""Softmax attention between blocks that a table allows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from formwright.nn.functional.blocks import attend_in_blocks, real_tokens, split_blocks

Layout = Sequence[Sequence[int]]


def block_sparse_attention(
    q: Float[Tensor, "batch time heads channels"],
    k: Float[Tensor, "batch time heads channels"],
    v: Float[Tensor, "batch time heads channels"],
    *,
    block: int,
    layout: Layout,
    mask: Bool[Tensor, "batch time"] | None = None,
) -> Float[Tensor, "batch time heads channels"]:
    """Queries of block ``n`` see the keys of the blocks ``layout[n]``: ``softmax(q kᵀ / sqrt(channels)) v`` over them.

    Blocks of queries that see equally many are computed together, so cost grows with the entries of the layout.

    Args:
        block: tokens of a block; the last may be shorter.
        layout: for each block of queries, the distinct numbers of the blocks of keys that it sees.
        mask: true for real tokens.
    """
    batch, time, heads, channels = q.shape
    blocks = math.ceil(time / block)
    assert len(layout) == blocks, f"{blocks} blocks need as many rows of the layout, not {len(layout)}"
    queries, keys, values = (split_blocks(x, block) for x in (q, k, v))
    real = split_blocks(real_tokens(mask, q), block)
    rows_of: dict[int, list[int]] = {}
    for row, seen in enumerate(layout):
        rows_of.setdefault(len(seen), []).append(row)
    y = queries.new_zeros(queries.shape)
    for rows in rows_of.values():
        chosen = torch.tensor([layout[row] for row in rows], device=q.device)
        own = torch.tensor(rows, device=q.device)
        some_keys, some_values = (x[:, chosen].flatten(2, 3) for x in (keys, values))
        allowed = real[:, chosen].flatten(2, 3)[:, :, None]
        y = y.index_copy(1, own, attend_in_blocks(queries[:, own], some_keys, some_values, allowed))
    return y.reshape(batch, blocks * block, heads, channels)[:, :time]


def bigbird_layout(blocks: int, *, window: int, random: int, ends: int, seed: int) -> list[list[int]]:
    """BigBird's table: ``ends`` blocks at both ends see all and are seen by all; others see ``window`` around and more.

    Args:
        blocks: number of blocks.
        window: how many neighbouring blocks are seen, the own one in the middle.
        random: how many blocks more each sees, drawn by ``seed`` from those that it does not see anyway.
        ends: blocks at the beginning, and as many at the end, that all others see.

    Source: Big Bird: Transformers for Longer Sequences, arXiv 2007.14062.
    """
    everyone = list(range(blocks))
    outer = {n for n in everyone if n < ends or n >= blocks - ends}
    layout = []
    for row in everyone:
        if row in outer:
            layout.append(everyone)
            continue
        near = {n for n in range(row - window // 2, row - window // 2 + window) if 0 <= n < blocks}
        seen = sorted(outer | near)
        others = [n for n in everyone if n not in outer | near]
        start = _scatter(_scatter(seed) ^ row)
        drawn = sorted((_scatter(start ^ n), n) for n in others)[:random]
        layout.append(sorted([*seen, *(n for _, n in drawn)]))
    return layout


def _scatter(number: int) -> int:
    """A one-to-one map of 32-bit numbers that looks random: whole numbers alone, so that it can be traced.

    Source: the finaliser of MurmurHash3.
    """
    number &= 0xFFFFFFFF
    number = ((number ^ (number >> 16)) * 0x85EBCA6B) & 0xFFFFFFFF
    number = ((number ^ (number >> 13)) * 0xC2B2AE35) & 0xFFFFFFFF
    return number ^ (number >> 16)
