"""Combiner's axial mixture: a table's tokens seen down their column, along their row, and as spans of both.

The sequence is a table, row by row. One softmax weighs five groups for a query at a row and a column:

1. the tokens above it in its column, one by one;
2. the tokens up to itself in its row, one by one;
3. a span of every other column: all of it that lies above the row;
4. a span of every earlier row: all of it that lies to the left of the column;
5. a span of every earlier row: all of it that lies to the right of the column.

Keys and values of spans are those of :mod:`formwright.nn.functional.combiner`. Tokens of earlier rows and other columns
are in a span of the third group and in one of the fourth or fifth; all weights still add up to one.

Source: Combiner: Full Attention Transformer with Sparse Computation Cost, arXiv 2107.05768.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from formwright.nn.functional.blocks import (
    Group,
    attend_jointly,
    average,
    forbid,
    join_blocks,
    real_tokens,
    scores,
    split_blocks,
)

Tokens = Float[Tensor, "batch time heads channels"]
Mask = Bool[Tensor, "batch time"]
Table = Float[Tensor, "batch rows columns heads channels"]
Real = Bool[Tensor, "batch rows columns"]
Column = Float[Tensor, "batch columns heads channels"]


class MixtureRows(NamedTuple):
    """What later rows see of rows: their tokens, and at each column the spans to both sides of it.

    All are ``(batch, rows, columns, heads, channels)``.
    """

    keys: Table
    values: Table
    left_keys: Table
    left_values: Table
    right_keys: Table
    right_values: Table


class MixturePast(NamedTuple):
    """What is kept of the rows before: themselves, which are finished, and the largest queries of their columns."""

    rows: MixtureRows
    finished: Bool[Tensor, "batch past"]
    queries: Column


def combiner_mixture_attention(q: Tokens, k: Tokens, v: Tokens, *, columns: int, mask: Mask | None = None) -> Tokens:
    """Causal: tokens of the own column and row, and spans of what lies in both directions, in one softmax.

    Cost grows with ``time * (columns + time / columns)``.

    Args:
        columns: tokens of a row; the last one may be shorter.
        mask: true for real tokens.
    """
    queries, keys, values = (split_blocks(x, columns) for x in (q, k, v))
    real = split_blocks(real_tokens(mask, q).expand(q.shape[0], -1), columns)
    return join_blocks(mixture_rows(queries, keys, values, real)[0], q.shape[1])


def mixture_rows(
    q: Table, k: Table, v: Table, real: Real, past: MixturePast | None = None
) -> tuple[Table, MixtureRows, Float[Tensor, "batch rows_and_one columns heads channels"]]:
    """:func:`combiner_mixture_attention` of whole rows, after those before them.

    Returns:
        The outputs, what later rows see of these, and the largest queries of each column above every row and below
        the last (the lowest number where there is no real one).
    """
    rows, columns = q.shape[1:3]
    new = MixtureRows(k, v, *_left(q, k, v, real), *(x.flip(2) for x in _left(*(x.flip(2) for x in (q, k, v, real)))))
    above, seen_real, highest = new, real, torch.full_like(q[:, 0], -torch.inf)
    if past is not None:
        above = MixtureRows(*(torch.cat([old.to(x.dtype), x], 1) for old, x in zip(past.rows, new, strict=True)))
        seen_real = torch.cat([past.finished[..., None].expand(-1, -1, columns), real], 1)
        highest = past.queries.to(q.dtype).masked_fill(~past.finished.any(1)[:, None, None, None], -torch.inf)
    earlier = real.new_ones(rows, above.keys.shape[1]).tril(above.keys.shape[1] - rows - 1)
    largest_queries = running_largest(torch.cat([highest[:, None], _or_lowest(q, real)], 1), 1)

    places = torch.arange(columns, device=q.device)
    own_row = real[:, :, None] & (places[:, None] >= places)
    other = places[:, None] != places
    some, column_keys, column_values = _columns(largest_queries[:, :-1], above, seen_real, earlier)
    groups: list[Group] = [
        _see_column(q, above.keys, above.values, seen_real, earlier),
        (forbid(scores(q, k), own_row[:, None]), lambda weights: average(weights, v)),
        (
            forbid(scores(q, column_keys), (some[:, :, None] & other)[:, None]),
            lambda weights: average(weights, column_values),
        ),
        _see_column(q, above.left_keys, above.left_values, _any_before(seen_real), earlier),
        _see_column(q, above.right_keys, above.right_values, _any_before(seen_real.flip(2)).flip(2), earlier),
    ]
    return attend_jointly(groups), new, largest_queries


def running_largest(x: Float[Tensor, "*shape"], axis: int) -> Float[Tensor, "*shape"]:
    """The elementwise largest so far along an axis, in ``log2`` many steps that can be exported to ONNX."""
    reach, size = 1, x.shape[axis]
    while reach < size:
        later = torch.maximum(x.narrow(axis, reach, size - reach), x.narrow(axis, 0, size - reach))
        x = torch.cat([x.narrow(axis, 0, reach), later], axis)
        reach *= 2
    return x


def _left(q: Table, k: Table, v: Table, real: Real) -> tuple[Table, Table]:
    """Key and value of what lies to the left of each column, in every row."""
    some = _any_before(real)[..., None, None]
    query, key = (
        torch.where(some, running_largest(_shift(_or_lowest(x, real), 2, -torch.inf), 2), 0.0) for x in (q, k)
    )
    left = real.new_ones(real.shape[2], real.shape[2]).tril(-1)
    inside = forbid(scores(query, k), (real[:, :, None] & left)[:, None])
    return key, average(inside.softmax(-1), v)


def _columns(
    largest_queries: Table,
    above: MixtureRows,
    real: Bool[Tensor, "batch above columns"],
    earlier: Bool[Tensor, "rows above"],
) -> tuple[Real, Table, Table]:
    """Whether there is anything above each row in a column, and its key and value, down the columns of all rows."""
    rows = len(earlier)
    some = torch.einsum("nm,bmu->bnu", earlier.float(), real.float()) > 0
    largest_keys = running_largest(_shift(_or_lowest(above.keys, real), 1, -torch.inf), 1)[:, -rows:]
    query, key = (torch.where(some[..., None, None], x, 0.0) for x in (largest_queries, largest_keys))
    logits, collect = _see_column(query, above.keys, above.values, real, earlier)
    return some, key, collect(logits.softmax(-1))


def _see_column(
    q: Table,
    keys: Float[Tensor, "batch above columns heads channels"],
    values: Float[Tensor, "batch above columns heads channels"],
    real: Bool[Tensor, "batch above columns"],
    earlier: Bool[Tensor, "rows above"],
) -> Group:
    """Queries at what stands in their own column for earlier rows."""
    logits = torch.einsum("bnuhc,bmuhc->bhnum", q * q.shape[-1] ** -0.5, keys)
    allowed = earlier[:, None] & real.transpose(1, 2)[:, None]
    return forbid(logits, allowed[:, None]), lambda weights: torch.einsum("bhnum,bmuhc->bnuhc", weights, values)


def _or_lowest(x: Table, real: Real) -> Table:
    return x.masked_fill(~real[..., None, None], -torch.inf)


def _any_before(real: Real) -> Real:
    """Whether there is a real token to the left in the row."""
    return real.cumsum(2) > real.long()


def _shift(x: Table, axis: int, first: float) -> Table:
    """One place further along an axis, ``first`` coming in and the last going out."""
    return torch.cat([torch.full_like(x.narrow(axis, 0, 1), first), x.narrow(axis, 0, x.shape[axis] - 1)], axis)
