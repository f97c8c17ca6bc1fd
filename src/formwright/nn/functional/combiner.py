"""Full attention at the cost of sparse attention: near tokens are seen one by one, far ones as spans.

All weights of a query come from one softmax over ``[tokens | spans]``. A span's key is the elementwise largest of its
keys; its value is an attention-weighted mean of its values, ``softmax(q_s k_jᵀ / sqrt(channels)) v_j`` over its tokens,
where ``q_s`` is the elementwise largest of its queries. The weight of a token inside a span is the product of both, so
that every token has one, and they add up to one.

Source: Combiner: Full Attention Transformer with Sparse Computation Cost, arXiv 2107.05768.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from formwright.nn.functional.blocks import Group, attend_jointly, average, forbid, real_tokens, scores, split_blocks

Tokens = Float[Tensor, "batch time heads channels"]
Blocks = Float[Tensor, "batch blocks block heads channels"]
Mask = Bool[Tensor, "batch time"]


class Spans(NamedTuple):
    """What far queries see of blocks: ``(batch, blocks, heads, channels)`` twice, and whether a block has any token."""

    keys: Tensor
    values: Tensor
    real: Bool[Tensor, "batch blocks"]


def summarise(q: Blocks, k: Blocks, v: Blocks, real: Bool[Tensor, "batch blocks block"]) -> Spans:
    """A span of every block, of its real tokens alone."""
    some = real.any(2)
    query, key = (_largest(x, real) for x in (q, k))
    inside = forbid(torch.einsum("bnhc,bnkhc->bhnk", query * q.shape[-1] ** -0.5, k), real[:, None])
    return Spans(key, torch.einsum("bhnk,bnkhc->bnhc", inside.softmax(-1), v), some)


def _largest(x: Blocks, real: Bool[Tensor, "batch blocks block"]) -> Float[Tensor, "batch blocks heads channels"]:
    """The elementwise largest over a block's real tokens, zero where there are none."""
    largest = x.masked_fill(~real[..., None, None], -torch.inf).amax(2)
    return torch.where(real.any(2)[..., None, None], largest, 0.0)


def combiner_fixed_attention(
    q: Tokens, k: Tokens, v: Tokens, *, segment: int, causal: bool = True, mask: Mask | None = None
) -> Tokens:
    """Tokens of the own segment, and a span of every other; causal, tokens up to the own and spans of earlier segments.

    Cost grows with ``time * (segment + time / segment)``. Where it is not causal, the authors' code sees the own
    segment as a span too; here every token is seen once.

    Args:
        segment: tokens of a segment; the last one may be shorter.
        causal: whether a query sees no later token.
        mask: true for real tokens.
    """
    time = q.shape[1]
    queries, keys, values = (split_blocks(x, segment) for x in (q, k, v))
    real = split_blocks(real_tokens(mask, q).expand(len(q), -1), segment)
    return fixed_segments(queries, keys, values, real, causal=causal)[0].flatten(1, 2)[:, :time]


def fixed_segments(
    q: Blocks,
    k: Blocks,
    v: Blocks,
    real: Bool[Tensor, "batch blocks block"],
    *,
    causal: bool,
    past: Spans | None = None,
) -> tuple[Blocks, Spans]:
    """:func:`combiner_fixed_attention` of whole segments, after the spans of what came before; and their spans."""
    blocks, block = q.shape[1:3]
    own = real[:, None, :, None]
    if causal:
        own = own & torch.ones(block, block, dtype=torch.bool, device=q.device).tril()
    spans = summarise(q, k, v, real)
    number = torch.arange(blocks, device=q.device)
    others = number[:, None] > number if causal else number[:, None] != number
    groups: list[Group] = [
        (forbid(scores(q, k), own), lambda weights: average(weights, v)),
        _see(q, spans, others & spans.real[:, None]),
    ]
    if past is not None:
        groups.append(_see(q, past, past.real[:, None]))
    return attend_jointly(groups), spans


def _see(q: Blocks, spans: Spans, seen: Bool[Tensor, "some_rows some_blocks spans"]) -> Group:
    logits = torch.einsum("bnqhc,bmhc->bhnqm", q * q.shape[-1] ** -0.5, spans.keys)
    return (
        forbid(logits, seen[:, None, :, None]),
        lambda weights: torch.einsum("bhnqm,bmhc->bnqhc", weights, spans.values),
    )


def levels(time: int) -> int:
    """Sizes of spans, 1, 2, 4, ..., that tile what lies before any of ``time`` tokens: ``ceil(log2(time))``.

    The authors' code has ``ceil(log2(time - 1))``: one level is missing for 2 tokens and for one more than a power of
    two, and the last token then sees only itself.
    """
    return math.ceil(math.log2(time)) if time > 1 else 0


def combiner_logsparse_attention(q: Tokens, k: Tokens, v: Tokens, *, mask: Mask | None = None) -> Tokens:
    """Causal: the own token, and spans of 1, 2, 4, ... tokens that tile all earlier ones.

    At every level ``l`` where ``floor(i / 2^l)`` is odd, query ``i`` sees the span of ``2^l`` tokens to the left of its
    own; these are as many as there are ones in ``i`` written in binary. Cost grows with ``time * log(time)``.

    Args:
        mask: true for real tokens.
    """
    places = torch.arange(q.shape[1], device=q.device).expand(len(q), -1)
    return logsparse_rows(q, places, q, k, v, real_tokens(mask, q).expand(len(q), -1))


def logsparse_rows(
    queries: Float[Tensor, "batch rows heads channels"],
    places: Int[Tensor, "batch rows"],
    q: Tokens,
    k: Tokens,
    v: Tokens,
    real: Mask,
) -> Float[Tensor, "batch rows heads channels"]:
    """:func:`combiner_logsparse_attention` of some queries at ``places`` of a sequence ``q, k, v``."""
    scaled = queries * queries.shape[-1] ** -0.5
    logits, values = [], []

    def see(keys: Tensor, value: Tensor, seen: Tensor) -> None:
        logits.append(forbid((scaled * keys).sum(-1), seen[..., None]))
        values.append(value)

    own = _pick(k, places), _pick(v, places)
    see(*own, torch.ones_like(places, dtype=torch.bool))
    for level in range(levels(q.shape[1])):
        if level == 0:
            spans = Spans(k, v, real)
        else:
            blocks = [split_blocks(x, 2**level) for x in (q, k, v, real)]
            spans = summarise(*blocks)
        block = places >> level
        left = (block - 1).clamp(min=0)
        seen = (block % 2 == 1) & spans.real.gather(1, left)
        see(_pick(spans.keys, left), _pick(spans.values, left), seen)
    weights = torch.stack(logits).softmax(0)
    return torch.stack([weight[..., None] * value for weight, value in zip(weights, values, strict=True)]).sum(0)


def _pick(
    x: Float[Tensor, "batch time heads channels"], places: Int[Tensor, "batch rows"]
) -> Float[Tensor, "batch rows heads channels"]:
    """The tokens at ``places``."""
    return x.gather(1, places[..., None, None].expand(-1, -1, *x.shape[2:]))


def axial_rows(
    q: Blocks, k: Blocks, v: Blocks, real: Bool[Tensor, "batch rows columns"]
) -> Float[Tensor, "batch rows columns heads channels"]:
    """Attention inside each row, to later tokens of it too: what later rows see as the row's values."""
    return average(forbid(scores(q, k), real[:, None, :, None]).softmax(-1), v)


def combiner_axial_attention(
    q: Blocks,
    k: Blocks,
    v: Blocks,
    row_keys: Blocks,
    row_values: Blocks,
    real: Bool[Tensor, "batch rows columns"],
    *,
    past: tuple[Tensor, Tensor, Bool[Tensor, "batch past"]] | None = None,
) -> Blocks:
    """Causal: tokens up to the own in its row, and what stands for each earlier row at the own column.

    The sequence is a table, row by row. Cost grows with ``time * (columns + rows)``.

    Args:
        q: queries, ``(batch, rows, columns, heads, channels)`` as the others are.
        k: keys of tokens.
        v: values of tokens.
        row_keys: what stands for a row, at each of its columns.
        row_values: from :func:`axial_rows`.
        real: which tokens are real.
        past: ``row_keys``, ``row_values`` and which of their rows are real, of rows before these.
    """
    rows, columns = q.shape[1:3]
    causal = torch.ones(columns, columns, dtype=torch.bool, device=q.device).tril()
    groups: list[Group] = [(forbid(scores(q, k), real[:, None, :, None] & causal), lambda weights: average(weights, v))]
    number = torch.arange(rows, device=q.device)
    # What stands for a row at a column is made of the token there, so that padding there stands for nothing.
    earlier = (number[:, None] > number)[:, None] & real.mT[:, None]
    groups.append(_see_column(q, row_keys, row_values, earlier))
    if past is not None:
        groups.append(_see_column(q, past[0], past[1], past[2][:, None, None]))
    return attend_jointly(groups)


def _see_column(
    q: Float[Tensor, "batch rows columns heads channels"],
    keys: Float[Tensor, "batch others columns heads channels"],
    values: Float[Tensor, "batch others columns heads channels"],
    seen: Bool[Tensor, "some_batch some_rows some_columns others"],
) -> Group:
    logits = torch.einsum("bnqhc,bmqhc->bhnqm", q * q.shape[-1] ** -0.5, keys)
    return (
        forbid(logits, seen[:, None]),
        lambda weights: torch.einsum("bhnqm,bmqhc->bnqhc", weights, values),
    )
