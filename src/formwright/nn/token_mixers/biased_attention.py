"""Attention whose scores gain something by the distance of the two tokens."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.nn.context import Context
from formwright.nn.parts import PARTS, Axis, Promises
from formwright.nn.token_mixers.attention import Attention


@PARTS.register("biased_attention")
class BiasedAttention(Attention):
    """``softmax(scale q_t k_sᵀ + b_{s - t}) v_s``, then a projection; ``b`` is what the context offers for a distance.

    With ``scale`` 1 it is the attention of T5, whose table all layers of a stack share: it is offered as
    ``context.distance_bias`` by :class:`~formwright.nn.positions.BucketedPositionBias` at the entry of the stage.
    Without an offer there is no ``b``.

    Args:
        dim: channels in and out.
        heads: number of heads.
        head_dim: channels of a head; ``dim / heads`` if unset.
        causal: whether tokens see only themselves and those before.
        scale: factor on the products; ``1 / sqrt(head_dim)`` if unset.
        qkv_bias: bias on queries, keys and values.
        bias: bias on the projection.
        dropout: share of output values that are dropped in training.
        attention_dropout: share of attention weights that are dropped in training.

    Shapes: ``(batch, time, dim)`` to the same; ``context.mask`` ``(batch, time)``, ``context.distance_bias``
    ``(distances, heads)`` with as many heads as the part was built with. State: that of
    :class:`~formwright.nn.token_mixers.attention.Attention`.

    Raises:
        UserError: ``dim`` cannot be split over the heads.

    Source: Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer, arXiv 1910.10683.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"mask", "segments", "distance_bias"})
    promises: ClassVar[Promises] = Promises(dimensions=(1,))

    #: Which column of the offered table each head reads: all of them until heads are cut.
    bias_heads: Tensor

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        head_dim: int | None = None,
        causal: bool = False,
        scale: float | None = None,
        qkv_bias: bool = False,
        bias: bool = False,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
    ) -> None:
        super().__init__(
            dim,
            heads=heads,
            head_dim=head_dim,
            causal=causal,
            qkv_bias=qkv_bias,
            bias=bias,
            dropout=dropout,
            attention_dropout=attention_dropout,
        )
        self.scale = scale
        self.register_buffer("bias_heads", torch.arange(heads))

    def init_weights(self) -> None:
        """Start queries smaller by as much as their products are not scaled down."""
        if self.scale is not None and isinstance(self.qkv, nn.Linear):
            with torch.no_grad():
                self.qkv.weight[: self.heads * self.head_dim] *= self.head_dim**-0.5 / self.scale

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return {**super().axes(), "bias_heads": (Axis("heads"),)}

    def _scores(self, context: Context, places: Tensor, key_places: Tensor) -> dict[str, Any]:
        table = context.distance_bias
        if table is None:
            return {"scale": self.scale}
        reach = table.shape[0] // 2
        behind = (key_places[:, None] - places[..., None]).clamp(-reach, reach)
        return {"scale": self.scale, "bias": F.embedding(behind + reach, table[:, self.bias_heads]).permute(0, 3, 1, 2)}
