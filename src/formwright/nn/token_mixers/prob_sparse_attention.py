"""Attention for the few queries that are expected to be choosy; the others take the mean of all values."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from formwright.nn.context import EMPTY, Context
from formwright.nn.parts import PARTS, Axis, Part, Promises
from formwright.nn.token_mixers.attention import check_heads

_GOLDEN_RATIO = (math.sqrt(5) - 1) / 2


def evenly_scattered(queries: int, keys: int, count: int) -> Int[Tensor, "queries count"]:
    """``count`` keys for each query, scattered by multiples of the golden ratio: the same every time."""
    place = torch.arange(queries * count, dtype=torch.float64) * _GOLDEN_RATIO
    return ((place - place.floor()) * keys).long().clamp(max=keys - 1).view(queries, count)


def prob_sparse_attention(
    q: Float[Tensor, "batch heads tokens channels"],
    k: Float[Tensor, "batch heads tokens channels"],
    v: Float[Tensor, "batch heads tokens channels"],
    sampled: Int[Tensor, "tokens count"],
    top: int,
) -> Float[Tensor, "batch heads tokens channels"]:
    """Softmax attention of the ``top`` queries whose sampled scores are least even; the mean of ``v`` for all others.

    A query's measure is ``max_s q · k_s - Σ_s q · k_s / n`` over the keys ``sampled`` for it, ``n`` being the number of
    all keys.

    Source: Informer: Beyond Efficient Transformer for Long Sequence Time-Series Forecasting, arXiv 2012.07436.
    """
    batch, heads, tokens, channels = q.shape
    seen = torch.einsum("bhlc,bhlsc->bhls", q, k[:, :, sampled])
    measure = seen.amax(-1) - seen.sum(-1) / tokens
    chosen = measure.topk(top, dim=-1).indices[..., None].expand(-1, -1, -1, channels)
    weights = (q.gather(2, chosen) @ k.mT / math.sqrt(channels)).softmax(-1)
    return v.mean(2, keepdim=True).expand(batch, heads, tokens, channels).scatter(2, chosen, weights @ v)


@PARTS.register("prob_sparse_attention")
class ProbSparseAttention(Part):
    """Multi-head attention of ``factor ⌈ln n⌉`` of ``n`` queries (:func:`prob_sparse_attention`), between dense layers.

    Which keys a query is measured by is drawn anew in training, and fixed in eval mode, so that answers are repeatable.

    Args:
        dim: channels in and out.
        heads: number of heads; must divide ``dim``.
        factor: how many times ``⌈ln n⌉`` keys are sampled and queries attend.
        qkv_bias: bias on queries, keys and values.
        scrambled: whether results, head by head, are read as if they were token by token: what the authors' code of
            iTransformer does, and what its weights need.

    Shapes: ``(batch, *grid, dim)`` to the same.

    Raises:
        UserError: ``dim`` cannot be split over the heads.

    Source: Informer, arXiv 2012.07436, as the mixer of iInformer in the authors' code of iTransformer, where heads and
    tokens are not put back in order as they are in Informer's own code.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"prefix", "grid"})
    promises: ClassVar[Promises] = Promises()
    taps: ClassVar[tuple[str, ...]] = ("queries", "keys", "values", "mixed")
    resizable: ClassVar[dict[str, str]] = {"heads": "heads"}

    def __init__(
        self, dim: int, *, heads: int = 4, factor: int = 1, qkv_bias: bool = False, scrambled: bool = False
    ) -> None:
        super().__init__()
        check_heads(dim, heads)
        self.heads, self.head_dim, self.factor, self.scrambled = heads, dim // heads, factor, scrambled
        if scrambled:
            self.resizable = {}  # type: ignore[misc]  # each result is made of several heads: none can be left out
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        residual = Axis("residual")
        if self.scrambled:
            return {"qkv.weight": (None, residual), "proj.weight": (residual, None)}
        heads = Axis("heads", repeats=3, block=self.head_dim)
        return {
            "qkv.weight": (heads, residual),
            "proj.weight": (residual, Axis("heads", block=self.head_dim)),
        }

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"]:
        if 0 in x.shape[1:-1]:
            return x
        tokens = x.flatten(1, -2)
        q, k, v = self.qkv(tokens).unflatten(-1, (3, self.heads, self.head_dim)).permute(2, 0, 3, 1, 4)
        count = tokens.shape[1]
        few = min(max(self.factor * math.ceil(math.log(count)), 1), count)
        if self.training:
            sampled = torch.randint(count, (count, few), device=x.device)
        else:
            sampled = evenly_scattered(count, count, few).to(x.device)
        q, k, v = self.tap("queries", q), self.tap("keys", k), self.tap("values", v)
        y = self.tap("mixed", prob_sparse_attention(q, k, v, sampled, few))
        y = y.reshape(*tokens.shape[:2], self.heads * self.head_dim) if self.scrambled else y.transpose(1, 2).flatten(2)
        return self.proj(y).view(x.shape)
