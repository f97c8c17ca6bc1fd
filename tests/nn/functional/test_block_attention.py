"""Local, fixed, strided and block-sparse attention are softmax attention over the keys that their patterns name."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from torch import Tensor

from formwright.nn.functional.block_attention import fixed_attention, local_attention, strided_attention
from formwright.nn.functional.block_sparse import bigbird_layout, block_sparse_attention
from formwright.nn.functional.global_window import global_window_attention
from tests.nn.functional.naive import LENGTHS, heads, hold, naive_attention, some_mask

each_length = pytest.mark.parametrize("time", LENGTHS)
each_direction = pytest.mark.parametrize("causal", [False, True], ids=["both-sides", "causal"])
with_and_without = pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])


def pairs(time: int, causal: bool, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Places of queries and keys, and which pairs are not forbidden by the mask or by causality."""
    query, key = torch.arange(time)[:, None], torch.arange(time)[None]
    seen = (key <= query) if causal else torch.ones(time, time, dtype=torch.bool)
    seen = seen.expand(2, -1, -1) if mask is None else seen & mask[:, None]
    return query, key, seen


def check(fast, time: int, causal: bool, masked: bool, allowed) -> None:  # type: ignore[no-untyped-def]
    mask = some_mask(time) if masked else None
    query, key, seen = pairs(time, causal, mask)
    naive = functools.partial(naive_attention, allowed=seen & allowed(query, key))
    hold(functools.partial(fast, mask=mask), naive, heads(time), mask)


@each_length
@each_direction
@with_and_without
def test_local(time: int, causal: bool, masked: bool) -> None:
    fast = functools.partial(local_attention, block=5, causal=causal)
    check(fast, time, causal, masked, lambda query, key: query // 5 == key // 5)


@each_length
@each_direction
@with_and_without
def test_fixed(time: int, causal: bool, masked: bool) -> None:
    fast = functools.partial(fixed_attention, block=5, summary=2, causal=causal)
    check(fast, time, causal, masked, lambda query, key: (query // 5 == key // 5) | (key % 5 >= 3))


@each_length
@each_direction
@with_and_without
def test_strided(time: int, causal: bool, masked: bool) -> None:
    fast = functools.partial(strided_attention, stride=5, causal=causal)
    check(fast, time, causal, masked, lambda query, key: ((query - key).abs() < 5) | ((query - key) % 5 == 0))


@each_length
@with_and_without
def test_fixed_with_tokens_that_see_all(time: int, masked: bool) -> None:
    leading = min(2, time)

    def allowed(query: Tensor, key: Tensor) -> Tensor:
        own = (query - leading).div(5, rounding_mode="floor") == (key - leading).div(5, rounding_mode="floor")
        return own | ((key - leading) % 5 >= 3) | (query < leading) | (key < leading)

    fast = functools.partial(fixed_attention, block=5, summary=2, leading=leading)
    if time > leading:
        check(fast, time, False, masked, allowed)


@each_length
@pytest.mark.parametrize("window", [1, 2, 5, 8, 100])
@with_and_without
def test_window(time: int, window: int, masked: bool) -> None:
    def fast(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        return global_window_attention((q, k, v), None, window=window, mask=mask)

    check(fast, time, False, masked, lambda query, key: (query - key).abs() <= window // 2)


@each_length
@with_and_without
def test_window_with_global_tokens(time: int, masked: bool) -> None:
    leading = min(3, time)
    mask = some_mask(time) if masked else None
    query, key, seen = pairs(time, False, mask)
    near = seen & (((query - key).abs() <= 2) | (key < leading))

    def fast(*heads: Tensor) -> Tensor:
        return global_window_attention(heads[:3], heads[3:], window=4, leading=leading, mask=mask)  # type: ignore[arg-type]

    def naive(*heads: Tensor) -> Tensor:
        y = naive_attention(*heads[:3], allowed=near)
        return torch.cat([naive_attention(*heads[3:], allowed=seen)[:, :leading], y[:, leading:]], dim=1)

    hold(fast, naive, heads(time, 6), mask)


@each_length
@with_and_without
def test_any_table_of_blocks(time: int, masked: bool) -> None:
    blocks = math.ceil(time / 3)
    layout = [sorted({row, (7 * row + 1) % blocks, *(range(blocks) if row == 1 else ())}) for row in range(blocks)]
    table = torch.zeros(blocks, blocks, dtype=torch.bool)
    for row, seen in enumerate(layout):
        table[row, seen] = True
    whole = table.repeat_interleave(3, 0).repeat_interleave(3, 1)[:time, :time]
    mask = some_mask(time) if masked else None
    allowed = pairs(time, False, mask)[2] & whole
    if masked:  # a query whose blocks hold no real key sees nothing
        mask = mask & allowed.any(-1)
    fast = functools.partial(block_sparse_attention, block=3, layout=layout, mask=some_mask(time) if masked else None)
    hold(fast, functools.partial(naive_attention, allowed=allowed), heads(time), mask)


@pytest.mark.parametrize("blocks", [1, 2, 5, 16])
def test_bigbird_sees_neighbours_ends_and_some_more(blocks: int) -> None:
    layout = bigbird_layout(blocks, window=3, random=2, ends=1, seed=0)
    assert layout == bigbird_layout(blocks, window=3, random=2, ends=1, seed=0)
    assert layout[0] == layout[-1] == list(range(blocks))
    for row, seen in enumerate(layout):
        assert seen == sorted(set(seen))
        certain = {0, blocks - 1, *(n for n in (row - 1, row, row + 1) if 0 <= n < blocks)}
        assert certain <= set(seen)
        if 0 < row < blocks - 1:
            assert len(seen) == min(len(certain) + 2, blocks)
    if blocks == 16:
        assert layout != bigbird_layout(blocks, window=3, random=2, ends=1, seed=1)


def test_as_wide_as_the_sequence_all_are_full_attention() -> None:
    q, k, v = heads(17)
    full = naive_attention(q, k, v, torch.ones(2, 17, 17, dtype=torch.bool))
    wide = [
        local_attention(q, k, v, block=17),
        fixed_attention(q, k, v, block=20, summary=3),
        strided_attention(q, k, v, stride=17),
        global_window_attention((q, k, v), None, window=34),
        block_sparse_attention(q, k, v, block=4, layout=[list(range(5))] * 5),
    ]
    for y in wide:
        torch.testing.assert_close(y, full, rtol=1e-9, atol=1e-9)
