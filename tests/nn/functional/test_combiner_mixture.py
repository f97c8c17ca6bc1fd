"""Combiner's axial mixture sees the own row and column token by token, and spans of all that lies beside both."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor

from formwright.nn.functional.combiner_mixture import combiner_mixture_attention, running_largest
from tests.nn.functional.naive import LENGTHS, heads, hold, naive_attention, normal, some_mask
from tests.nn.functional.test_combiner import span

COLUMNS = 5


def seen(query: int, columns: int) -> tuple[list[int], list[list[int]]]:
    """Tokens that a query sees one by one, and the spans, from the five groups' definition."""
    row, column = divmod(query, columns)
    near = [*range(column, query - columns + 1, columns), *range(row * columns, query + 1)]
    spans = [list(range(other, row * columns, columns)) for other in range(columns) if other != column]
    for first in range(0, row * columns, columns):
        spans += [list(range(first, first + column)), list(range(first + column + 1, first + columns))]
    return near, spans


def naive_mixture(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    rows = []
    for row, real in enumerate(mask):
        columns = []
        for head in range(q.shape[2]):
            own = q[row, :, head], k[row, :, head], v[row, :, head]
            outputs = []
            for query in range(q.shape[1]):
                near, far = seen(query, COLUMNS)
                spans = [[place for place in tokens if real[place]] for tokens in far]
                entries = [(own[1][place], own[2][place]) for place in near if real[place] or place == query]
                entries += [span(*own, tokens) for tokens in spans if tokens]
                keys, values = (torch.stack(part) for part in zip(*entries, strict=True))
                outputs.append((keys @ own[0][query] / q.shape[-1] ** 0.5).softmax(0) @ values)
            columns.append(torch.stack(outputs))
        rows.append(torch.stack(columns, dim=1))
    return torch.stack(rows)


@pytest.mark.parametrize("time", LENGTHS)
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
def test_mixture(time: int, masked: bool) -> None:
    mask = some_mask(time) if masked else None
    real = torch.ones(2, time, dtype=torch.bool) if mask is None else mask
    fast = functools.partial(combiner_mixture_attention, columns=COLUMNS, mask=mask)
    hold(fast, functools.partial(naive_mixture, mask=real), heads(time), real)


@pytest.mark.parametrize("columns", [1, 17, 40])
def test_a_single_column_or_row_is_full_attention(columns: int) -> None:
    q, k, v = heads(17)
    causal = torch.ones(2, 17, 17, dtype=torch.bool).tril()
    y = combiner_mixture_attention(q, k, v, columns=columns)
    torch.testing.assert_close(y, naive_attention(q, k, v, causal), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("time", [1, 2, 5, 9, 16, 17])
@pytest.mark.parametrize("columns", [1, 3, 4])
def test_every_earlier_token_has_a_weight_and_they_add_up_to_one(time: int, columns: int) -> None:
    """With one-hot values the output is the weights."""
    q, k = (x[:, :, :1] for x in heads(time, 2))
    values = torch.eye(time, dtype=torch.float64).expand(2, -1, -1)[:, :, None]
    weights = combiner_mixture_attention(q, k, values, columns=columns)[:, :, 0]
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, time, dtype=torch.float64))
    assert torch.equal(weights > 0, torch.ones_like(weights).tril() > 0)


def test_another_token_changes_all_outputs_from_its_own_on_and_none_before() -> None:
    """Its query, key and value are all others: a span's query is of earlier tokens too."""
    inputs = heads(18)
    y = combiner_mixture_attention(*inputs, columns=COLUMNS)
    for token in range(18):
        others = [x.clone() for x in inputs]
        for number, x in enumerate(others):
            x[:, token] += normal(2, 2, 4, seed=7 + number)
        change = (combiner_mixture_attention(*others, columns=COLUMNS) - y).abs().amax((0, 2, 3))
        assert torch.equal(change[:token], torch.zeros(token, dtype=torch.float64))
        assert (change[token:] > 0).all()


@pytest.mark.parametrize("size", [1, 2, 3, 8, 13])
def test_running_largest(size: int) -> None:
    x = normal(3, size, 2)
    assert torch.equal(running_largest(x, 1), x.cummax(1).values)
