"""Sinkhorn's normalisation, and attention to the blocks that it brings."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from torch import Tensor

from formwright.nn.functional.sorted_blocks import sinkhorn, sorted_block_attention
from tests.nn.functional.naive import LENGTHS, heads, hold, naive_attention, normal, some_mask


def test_rows_and_columns_add_up_to_one() -> None:
    weights = sinkhorn(normal(3, 6, 6), 200)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 6, dtype=torch.float64))
    torch.testing.assert_close(weights.sum(-2), torch.ones(3, 6, dtype=torch.float64))
    assert (weights > 0).all()


def test_without_iterations_it_is_a_softmax_of_rows() -> None:
    logits = normal(3, 6, 6)
    torch.testing.assert_close(sinkhorn(logits, 0), logits.softmax(-1))


def test_what_is_not_real_takes_no_part() -> None:
    logits = normal(6, 6)
    real = torch.zeros(6, 6, dtype=torch.bool)
    real[:4, :4] = True
    weights = sinkhorn(logits, 5, real)
    torch.testing.assert_close(weights[:4, :4], sinkhorn(logits[:4, :4], 5))
    assert (weights[~real] == 0).all()


BLOCK = 5


def naive_sorted(q: Tensor, k: Tensor, v: Tensor, sorting: Tensor, mask: Tensor) -> Tensor:
    """Block by block with whole-sequence attention to tokens that were put together one by one."""
    time = q.shape[1]
    place = torch.arange(time)
    own = (place[:, None] // BLOCK == place // BLOCK) & mask[:, None]
    y = naive_attention(q, k, v, own | torch.eye(time, dtype=torch.bool))
    blocks = math.ceil(time / BLOCK)
    real = mask.double()[..., None, None]
    extent = torch.zeros(len(q), BLOCK, dtype=torch.bool)
    brought = []
    for x in (k, v):
        tokens = torch.zeros(len(q), blocks, BLOCK, *q.shape[2:], dtype=q.dtype)
        for n in range(blocks):
            for t in range(time):
                share = sorting[:, :, n, t // BLOCK][..., None]
                tokens[:, n, t % BLOCK] += share * (x * real)[:, t]
        brought.append(tokens)
    for t in range(time):
        extent[:, t % BLOCK] |= mask[:, t]
    pieces = []
    for n in range(blocks):
        piece = q[:, n * BLOCK : (n + 1) * BLOCK]
        seen = extent[:, None].expand(-1, piece.shape[1], -1)
        pieces.append(naive_attention(piece, brought[0][:, n], brought[1][:, n], seen))
    return y + torch.cat(pieces, dim=1)


@pytest.mark.parametrize("time", LENGTHS)
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
def test_sorted_block_attention(time: int, masked: bool) -> None:
    mask = some_mask(time) if masked else torch.ones(2, time, dtype=torch.bool)
    blocks = math.ceil(time / BLOCK)
    sorting = normal(2, 2, blocks, blocks, seed=7).softmax(-1)
    fast = functools.partial(sorted_block_attention, block=BLOCK, mask=mask if masked else None)
    hold(fast, functools.partial(naive_sorted, mask=mask), [*heads(time), sorting], mask)
