"""Attention over blocks of a cache, merged in any order, against the softmax over all keys."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from formwright.errors import UserError
from formwright.nn.functional.decode import blockwise_attention, partial_attention
from tests.nn.functional.recurrences import TOLERANCE, assert_near, assert_same


def operands(keys: int = 29, queries: int = 3, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(keys)
    shapes = ((2, queries, 4, 5), (2, keys, 4, 5), (2, keys, 4, 6))
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


def softmax(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    scores = torch.einsum("bqhc,bkhc->bhqk", q, k) / q.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None], -torch.inf)
    return torch.einsum("bhqk,bkhc->bqhc", scores.softmax(-1), v)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("block", [1, 7, 29, 100])
def test_equals_the_softmax_with_its_gradients(block: int, dtype: torch.dtype) -> None:
    def ours(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        y = blockwise_attention(*tensors, block=block)
        return y, y

    def naive(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        y = softmax(*tensors)
        return y, y

    assert_same(ours, naive, operands(dtype=dtype))


def test_blocks_are_merged_in_any_order() -> None:
    q, k, v = operands()
    parts = [partial_attention(q, k[:, piece], v[:, piece]) for piece in (slice(0, 4), slice(4, 20), slice(20, 29))]
    for order in ((0, 1, 2), (2, 0, 1)):
        first, second, third = (parts[index] for index in order)
        assert_near(first.merge(second).merge(third).normalized(), softmax(q, k, v), 1e-12)
        assert_near(first.merge(second.merge(third)).normalized(), softmax(q, k, v), 1e-12)


def test_scores_that_overflow_an_exponential() -> None:
    q, k, v = operands(dtype=torch.float32)
    y = blockwise_attention(300 * q, k, v, block=4)
    assert_near(y, softmax(300 * q.double(), k.double(), v.double()), TOLERANCE[torch.float32])


def test_a_block_in_which_nothing_is_allowed_does_not_count() -> None:
    q, k, v = operands()
    mask = torch.rand(2, 3, 29, generator=torch.Generator().manual_seed(1)) < 0.5
    mask[:, :, :12] = False
    mask[0, 1] = False
    y = blockwise_attention(q, k, v, mask, block=4)
    expected = softmax(q, k, v, mask)
    assert y[0, 1].eq(0).all()
    seen = mask.any(-1)
    assert_near(y[seen], expected[seen], 1e-12)


def test_a_mask_for_all_queries_alike() -> None:
    q, k, v = operands()
    mask = torch.arange(29) < torch.tensor([[29], [11]])
    assert_near(blockwise_attention(q, k, v, mask[:, None], block=8), softmax(q, k, v, mask[:, None]), 1e-12)


def test_bfloat16_is_accumulated_in_float32() -> None:
    given = operands(keys=200, dtype=torch.bfloat16)
    y = blockwise_attention(*given, block=16)
    assert y.dtype is torch.bfloat16
    assert partial_attention(*given).total.dtype is torch.float32
    assert_near(y, softmax(*(x.double() for x in given)), TOLERANCE[torch.bfloat16])


@pytest.mark.parametrize(("keys", "block"), [(0, 4), (5, 0)])
def test_nothing_to_attend_to_is_refused(keys: int, block: int) -> None:
    with pytest.raises(UserError, match="start at 1"):
        blockwise_attention(*operands(keys=keys), block=block)
