"""Combiner sees every earlier token once, with weights that are products and add up to one."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from torch import Tensor

from formwright.nn.functional.blocks import split_blocks
from formwright.nn.functional.combiner import (
    axial_rows,
    combiner_axial_attention,
    combiner_fixed_attention,
    combiner_logsparse_attention,
    levels,
)
from tests.nn.functional.naive import LENGTHS, heads, hold, naive_attention, some_mask

each_length = pytest.mark.parametrize("time", LENGTHS)
with_and_without = pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])


def span(q: Tensor, k: Tensor, v: Tensor, tokens: list[int]) -> tuple[Tensor, Tensor]:
    """Key and value of a span of one row and head: ``q, k, v`` ``(time, channels)``."""
    inside = k[tokens] @ q[tokens].amax(0) / q.shape[-1] ** 0.5
    return k[tokens].amax(0), inside.softmax(0) @ v[tokens]


def naive_combiner(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, pattern) -> Tensor:  # type: ignore[no-untyped-def]
    """Query by query: ``pattern(i)`` says which tokens are seen one by one, and which as spans."""
    rows = []
    for row in range(len(q)):
        real = set(mask[row].nonzero().flatten().tolist())
        columns = []
        for head in range(q.shape[2]):
            own = [x[row, :, head] for x in (q, k, v)]
            outputs = []
            for query in range(q.shape[1]):
                near, far = pattern(query)
                spans = [[place for place in tokens if place in real] for tokens in far]
                seen = [(own[1][place], own[2][place]) for place in near if place in real or place == query]
                seen += [span(*own, tokens) for tokens in spans if tokens]
                keys, values = (torch.stack(part) for part in zip(*seen, strict=True))
                outputs.append((keys @ own[0][query] / q.shape[-1] ** 0.5).softmax(0) @ values)
            columns.append(torch.stack(outputs))
        rows.append(torch.stack(columns, dim=1))
    return torch.stack(rows)


def fixed(segment: int, time: int, causal: bool):  # type: ignore[no-untyped-def]
    def pattern(query: int) -> tuple[list[int], list[list[int]]]:
        first = query // segment * segment
        last = query + 1 if causal else min(first + segment, time)
        starts = range(0, first if causal else time, segment)
        return list(range(first, last)), [
            list(range(start, min(start + segment, time))) for start in starts if start != first
        ]

    return pattern


def logsparse(query: int) -> tuple[list[int], list[list[int]]]:
    """The tiles from the binary digits of the place: 5 = 101 sees 5, the one before it and the four before that."""
    spans, end = [], query
    for level in range(query.bit_length()):
        if query >> level & 1:
            spans.append(list(range(end - 2**level, end)))
            end -= 2**level
    return [query], spans


@each_length
@with_and_without
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "both-sides"])
def test_fixed(time: int, masked: bool, causal: bool) -> None:
    mask = some_mask(time) if masked else None
    real = torch.ones(2, time, dtype=torch.bool) if mask is None else mask
    fast = functools.partial(combiner_fixed_attention, segment=5, causal=causal, mask=mask)
    naive = functools.partial(naive_combiner, mask=real, pattern=fixed(5, time, causal))
    hold(fast, naive, heads(time), real)


@pytest.mark.parametrize("time", sorted({*LENGTHS, 8, 9, 16, 33}))
@with_and_without
def test_logsparse(time: int, masked: bool) -> None:
    mask = some_mask(time) if masked else None
    real = torch.ones(2, time, dtype=torch.bool) if mask is None else mask
    fast = functools.partial(combiner_logsparse_attention, mask=mask)
    hold(fast, functools.partial(naive_combiner, mask=real, pattern=logsparse), heads(time), real)


COLUMNS = 5


def axial(*inputs: Tensor, mask: Tensor) -> Tensor:
    q, k, v, row_keys = (split_blocks(x, COLUMNS) for x in inputs)
    real = split_blocks(mask, COLUMNS)
    y = combiner_axial_attention(q, k, v, row_keys, axial_rows(q, k, v, real), real)
    return y.flatten(1, 2)[:, : inputs[0].shape[1]]


def naive_axial(q: Tensor, k: Tensor, v: Tensor, row_keys: Tensor, mask: Tensor) -> Tensor:
    """As attention over the tokens, and over one more for each row and column, of the whole table."""
    time = q.shape[1]
    missing = -time % COLUMNS
    q, k, v, row_keys = (torch.cat([x, x.new_zeros(2, missing, *x.shape[2:])], 1) for x in (q, k, v, row_keys))
    mask = torch.cat([mask, mask.new_zeros(2, missing)], 1)
    place = torch.arange(time + missing)
    row, column = place // COLUMNS, place % COLUMNS
    own_row = (row[:, None] == row) & mask[:, None]
    row_values = naive_attention(q, k, v, own_row)
    tokens = own_row & (place[:, None] >= place)
    rows = (row[:, None] > row) & (column[:, None] == column) & mask[:, None]
    allowed = torch.cat([tokens, rows], dim=-1)
    return naive_attention(q, torch.cat([k, row_keys], 1), torch.cat([v, row_values], 1), allowed)[:, :time]


@each_length
@with_and_without
def test_axial(time: int, masked: bool) -> None:
    mask = some_mask(time) if masked else torch.ones(2, time, dtype=torch.bool)
    hold(functools.partial(axial, mask=mask), functools.partial(naive_axial, mask=mask), heads(time, 4), mask)


@pytest.mark.parametrize("segment", [1, 17, 40])
def test_segments_of_one_token_or_of_all_are_full_attention(segment: int) -> None:
    q, k, v = heads(17)
    causal = torch.ones(2, 17, 17, dtype=torch.bool).tril()
    y = combiner_fixed_attention(q, k, v, segment=segment)
    torch.testing.assert_close(y, naive_attention(q, k, v, causal), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("time", [2, 5, 8, 9, 16, 17])
def test_every_earlier_token_has_a_weight_and_they_add_up_to_one(time: int) -> None:
    """With one-hot values the output is the weights: also one after a power of two, where the authors' code fails."""
    q, k = (x[:, :, :1] for x in heads(time, 2))
    values = torch.eye(time, dtype=torch.float64).expand(2, -1, -1)[:, :, None]
    for y in (
        combiner_fixed_attention(q, k, values, segment=4),
        combiner_logsparse_attention(q, k, values),
        axial(q, k, values, k, mask=torch.ones(2, time, dtype=torch.bool)),
    ):
        weights = y[:, :, 0]
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, time, dtype=torch.float64))
        assert torch.equal(weights > 0, torch.ones_like(weights).tril() > 0)


def test_log_many_entries() -> None:
    """1 + as many as the place has ones in binary; 1,024 tokens need eleven logits at most."""
    assert [1 + len(logsparse(query)[1]) for query in range(16)] == [1 + query.bit_count() for query in range(16)]
    assert logsparse(5) == ([5], [[4], [0, 1, 2, 3]])
    assert 1 + levels(1024) == 11
    assert [levels(time) for time in (1, 2, 3, 4, 5, 17)] == [math.ceil(math.log2(t)) for t in (1, 2, 3, 4, 5, 17)]
