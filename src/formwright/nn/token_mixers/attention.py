"""Softmax attention over all tokens."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.errors import UserError
from formwright.nn.context import EMPTY, Context
from formwright.nn.convolution import scale_input, scale_output
from formwright.nn.functional.dense import dense
from formwright.nn.part import PARTS, Axis, Part, Promises


def check_heads(dim: int, heads: int) -> None:
    if heads < 1 or dim % heads:
        raise UserError(f"{dim} channels cannot be split over {heads} heads; heads must divide the channels.")


def key_mask(mask: Bool[Tensor, "batch *grid"] | None) -> Bool[Tensor, "batch 1 1 tokens"] | None:
    """The mask over keys as scaled-dot-product attention takes it: true where a key may be attended to."""
    return None if mask is None else mask.flatten(1)[:, None, None, :]


@PARTS.register("attention")
class Attention(Part):
    """Multi-head attention: ``softmax(q kᵀ / sqrt(head_dim)) v`` with ``q, k, v = x Wqkv``, then a projection.

    Every token attends to every real token; places do not matter, so any grid (or a class token in front) will do.

    Args:
        dim: channels in and out.
        heads: number of heads; must divide ``dim`` unless ``head_dim`` is given.
        head_dim: channels of a head; ``heads`` defaults to ``dim // head_dim``.
        qkv_bias: bias on queries, keys and values.
        bias: bias on the projection.
        dropout: share of output values that are dropped in training.
        attention_dropout: share of attention weights that are dropped in training.

    Shapes: ``(batch, *grid, dim)`` to the same; ``context.mask`` ``(batch, *grid)`` true for real tokens.

    Raises:
        UserError: ``dim`` cannot be split over the heads.

    Source: Attention Is All You Need, arXiv 1706.03762.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"mask", "prefix", "grid"})
    promises: ClassVar[Promises] = Promises()
    resizable: ClassVar[dict[str, str]] = {"heads": "heads"}

    def __init__(
        self,
        dim: int,
        *,
        heads: int | None = None,
        head_dim: int | None = None,
        qkv_bias: bool = False,
        bias: bool = True,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if heads is None:
            heads = dim // (head_dim or 32)
        if head_dim is None:
            check_heads(dim, heads)
            head_dim = dim // heads
        if heads < 1:
            raise UserError(f"{dim} channels are too few for a head of {head_dim}; choose a smaller head_dim.")
        self.heads = heads
        self.head_dim = head_dim
        self.attention_dropout = attention_dropout
        self.qkv = nn.Linear(dim, 3 * heads * head_dim, bias=qkv_bias)
        self.proj = nn.Linear(heads * head_dim, dim, bias=bias)
        self.dropout = nn.Dropout(dropout) if dropout else None

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        heads, residual = Axis("heads", repeats=3, block=self.head_dim), Axis("residual")
        return {
            "qkv.weight": (heads, residual),
            "qkv.bias": (heads,),
            "proj.weight": (residual, Axis("heads", block=self.head_dim)),
            "proj.bias": (residual,),
        }

    def absorb_input(self, scale: Tensor, shift: Tensor | None) -> bool:
        scale_input(self.qkv, scale, shift)
        return True

    def absorb_output(self, scale: Tensor) -> bool:
        scale_output(self.proj, scale)
        return True

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"]:
        tokens = x.flatten(1, -2)
        batch, length, _ = tokens.shape
        q, k, v = dense(self.qkv, tokens).view(batch, length, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(
            q, k, v, attn_mask=key_mask(context.mask), dropout_p=self.attention_dropout if self.training else 0.0
        )
        y = dense(self.proj, y.transpose(1, 2).reshape(batch, length, -1))
        return (y if self.dropout is None else self.dropout(y)).view(x.shape)
