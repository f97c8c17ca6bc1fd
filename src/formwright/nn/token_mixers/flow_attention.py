"""Attention as a flow from values to results that conserves what goes in and out: linear in the tokens."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from formwright.nn.context import EMPTY, Context
from formwright.nn.parts import PARTS, Axis, Part, Promises
from formwright.nn.token_mixers.attention import check_heads

_EPSILON = 1e-6


def flow_attention(
    q: Float[Tensor, "batch heads tokens channels"],
    k: Float[Tensor, "batch heads tokens channels"],
    v: Float[Tensor, "batch heads tokens channels"],
    mask: Bool[Tensor, "batch 1 tokens 1"] | None = None,
) -> Float[Tensor, "batch heads tokens channels"]:
    """Flow attention without a causal order, at cost linear in the tokens.

    With ``q, k = sigmoid(q), sigmoid(k)``, what flows into a result is ``I = q · Σ k``, what flows out of a value is
    ``O = k · Σ q``; conserved, they are ``Î = q · Σ k / O`` and ``Ô = k · Σ q / I``. Values compete by
    ``softmax(Ô)`` times their number, results take ``sigmoid(Î)``:
    ``y = sigmoid(Î) (q / I) (kᵀ (softmax(Ô) n v))``. Every factor of a product has 1e-6 added to it.

    Source: Flowformer, arXiv 2202.06258.
    """
    q, k = torch.sigmoid(q), torch.sigmoid(k)
    count: Tensor | float = k.shape[2]
    if mask is not None:
        q, k = q * mask, k * mask
        count = mask.sum(2, keepdim=True).clamp(min=1).to(q.dtype)

    def flow(x: Tensor, others: Tensor) -> Tensor:
        return (x + _EPSILON) @ (others.sum(2, keepdim=True) + _EPSILON).mT  # (batch, heads, tokens, 1)

    incoming, outgoing = 1 / flow(q, k), 1 / flow(k, q)
    competition = flow(k, q * incoming)
    if mask is not None:
        competition = competition.masked_fill(~mask, torch.finfo(competition.dtype).min)
    allocated = k.mT @ (v * competition.softmax(2) * count)
    return (q @ allocated) * incoming * torch.sigmoid(flow(q, k * outgoing))


@PARTS.register("flow_attention")
class FlowAttention(Part):
    """Multi-head flow attention (:func:`flow_attention`) between dense layers for queries, keys, values and output.

    Args:
        dim: channels in and out.
        heads: number of heads; must divide ``dim``.
        qkv_bias: bias on queries, keys and values.

    Shapes: ``(batch, *grid, dim)`` to the same; ``context.mask`` ``(batch, *grid)`` true for real tokens.

    Raises:
        UserError: ``dim`` cannot be split over the heads.

    Source: Flowformer, arXiv 2202.06258, as the mixer of iFlowformer in the authors' code of iTransformer.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"mask", "prefix", "grid"})
    promises: ClassVar[Promises] = Promises()
    taps: ClassVar[tuple[str, ...]] = ("queries", "keys", "values", "mixed")
    resizable: ClassVar[dict[str, str]] = {"heads": "heads"}

    def __init__(self, dim: int, *, heads: int = 4, qkv_bias: bool = False) -> None:
        super().__init__()
        check_heads(dim, heads)
        self.heads, self.head_dim = heads, dim // heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        heads, residual = Axis("heads", repeats=3, block=self.head_dim), Axis("residual")
        return {
            "qkv.weight": (heads, residual),
            "proj.weight": (residual, Axis("heads", block=self.head_dim)),
        }

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"]:
        tokens = x.flatten(1, -2)
        q, k, v = self.qkv(tokens).unflatten(-1, (3, self.heads, self.head_dim)).permute(2, 0, 3, 1, 4)
        mask = None if context.mask is None else context.mask.flatten(1)[:, None, :, None]
        q, k, v = self.tap("queries", q), self.tap("keys", k), self.tap("values", v)
        y = self.tap("mixed", flow_attention(q, k, v, mask))
        return self.proj(y.transpose(1, 2).flatten(2)).view(x.shape)
