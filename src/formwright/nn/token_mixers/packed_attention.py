"""Attention over several sequences that lie in one row."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from formwright.errors import UserError
from formwright.nn.context import EMPTY, Context
from formwright.nn.functional.attention import SOFTMAX_TAPS, softmax_attention
from formwright.nn.parts import PARTS
from formwright.nn.token_mixers.attention import Attention


@PARTS.register("packed_attention")
class PackedAttention(Attention):
    """Softmax attention in which tokens of different sequences of a row do not see each other.

    ``context.positions`` ``(batch, tokens, 2)`` says where each token is: its place in its own sequence, and which
    sequence of the row that is. Every sequence of a packed row gives what it gives alone. Without it, the part is
    :class:`~formwright.nn.token_mixers.attention.Attention` with the same options.

    Shapes: ``(batch, *grid, dim)`` to the same.

    Source: the packing of Unified Training of Universal Time Series Forecasting Transformers, arXiv 2402.02592.
    """

    uses: ClassVar[frozenset[str]] = (Attention.uses | {"positions"}) - {"token_size", "segments"}
    shares_keys: ClassVar[bool] = False

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"] | tuple[Float[Tensor, "batch *grid channels"], Context]:
        if context.positions is None:
            return super().forward(x, context)
        if self.window is not None:
            raise UserError("Attention within a window takes one sequence a row: leave out window, or do not pack.")
        tokens = x.flatten(1, -2)
        place, sequence = context.positions.unbind(-1)
        allowed = sequence[:, :, None] == sequence[:, None, :]
        if context.mask is not None:
            allowed = allowed & context.mask.flatten(1)[:, None, :]
        if self.causal:
            allowed = allowed & torch.ones_like(allowed).tril()
        q, k, v = self._project(tokens, place)
        dropout = self.attention_dropout if self.training else 0.0
        tap = self.listened(*SOFTMAX_TAPS)
        y = softmax_attention(q, k, v, allowed=allowed[:, None], dropout=dropout, tap=tap)
        return self._output(y).view(x.shape)
