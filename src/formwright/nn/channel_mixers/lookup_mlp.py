"""Tables in place of dense layers: a token's signs say which rows, its values how much of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from formwright.errors import UnknownNameError, UserError
from formwright.nn.context import EMPTY, Context
from formwright.nn.functional.lookup import (
    scaled_vertex_probability,
    sign_addresses,
    vertex_probability,
    weighted_rows,
)
from formwright.nn.parts import PARTS, Part, Promises

#: The share of each row of a table that a token takes, by name.
SCORES: dict[str, Callable[[Tensor], Tensor]] = {
    "vertex_probability": vertex_probability,
    "scaled_vertex_probability": scaled_vertex_probability,
}
_MOST_BITS = 16


class LookupLayer(nn.Module):
    """``y = sum_k score(z_k) T_k[address(z_k)] + b`` with ``z_k`` the chunks of ``bits`` channels of ``x``.

    A chunk's address is the number that the signs of its channels spell. Gradients reach ``x`` through the score
    alone: an address does not change when ``x`` changes a little. A token costs ``in_dim / bits * dim``
    multiply-accumulates, where a dense layer takes ``in_dim * dim``; the tables hold ``2^bits / bits`` times as many
    weights as it.

    Args:
        in_dim: channels that are hashed.
        dim: channels of a row.
        bits: channels of a chunk.
        score: ``vertex_probability``, the paper's, or ``scaled_vertex_probability``, what the authors' released code
            computes instead; see :mod:`formwright.nn.functional.lookup`.

    Shapes: ``(*tokens, in_dim)`` to ``(*tokens, dim)``.

    Raises:
        UserError: ``in_dim`` is no multiple of ``bits``, tables would be too large, or the score is unknown.

    Source: MemoryFormer, arXiv 2411.12992.
    """

    no_decay: ClassVar[tuple[str, ...]] = ("tables",)

    def __init__(self, in_dim: int, dim: int, *, bits: int = 8, score: str = "vertex_probability") -> None:
        super().__init__()
        if not 1 <= bits <= _MOST_BITS:
            raise UserError(f"A table of 2^{bits} rows is out of reach; choose between 1 and {_MOST_BITS} bits.")
        if in_dim % bits:
            raise UserError(f"{in_dim} channels cannot be hashed {bits} at a time; bits must divide the channels.")
        if score not in SCORES:
            raise UnknownNameError("score", score, SCORES)
        self.bits = bits
        self.score = SCORES[score]
        self.tables = nn.Parameter(torch.empty(in_dim // bits * 2**bits, dim))
        self.bias = nn.Parameter(torch.empty(dim))
        self.init_weights()

    @torch.no_grad()
    def init_weights(self) -> None:
        nn.init.normal_(self.tables, std=0.02)
        nn.init.normal_(self.bias, std=0.001)

    def hash(
        self, x: Float[Tensor, "*tokens channels"]
    ) -> tuple[Int[Tensor, "*tokens tables"], Float[Tensor, "*tokens tables"]]:
        """The rows that each token takes, and how much of each."""
        z = x.view(*x.shape[:-1], x.shape[-1] // self.bits, self.bits)
        return sign_addresses(z), self.score(z)

    def rows(self, addresses: Tensor, scores: Tensor) -> Tensor:
        return weighted_rows(self.tables, addresses, scores) + self.bias

    def forward(self, x: Float[Tensor, "*tokens channels"]) -> Float[Tensor, "*tokens out_channels"]:
        return self.rows(*self.hash(x))


@PARTS.register("lookup_mlp")
class LookupMLP(Part):
    """``y = lookup(norm(lookup(x)))``: two layers of tables with a layer norm between them and no activation.

    The first layer's rows are widened so that the second has as many tables with ``extra_bits`` more bits each.

    Args:
        dim: channels in and out.
        bits: channels that a table of the first layer hashes.
        extra_bits: by how much those of the second are more.
        score: the share of each row that a token takes, see :class:`LookupLayer`.

    Shapes: ``(batch, *grid, dim)`` to the same.

    Raises:
        UserError: ``dim`` is no multiple of ``bits``, or tables would be too large.

    Source: MemoryFormer, arXiv 2411.12992.
    """

    promises: ClassVar[Promises] = Promises(
        per_token=True, causal=True, exemptions={"residual": "a table hashes neighbouring channels together"}
    )
    taps: ClassVar[tuple[str, ...]] = ("hidden",)

    def __init__(self, dim: int, *, bits: int = 8, extra_bits: int = 2, score: str = "vertex_probability") -> None:
        super().__init__()
        hidden = dim // bits * (bits + extra_bits) if bits > 0 else dim
        self.first = LookupLayer(dim, hidden, bits=bits, score=score)
        self.norm = nn.LayerNorm(hidden)
        self.second = LookupLayer(hidden, dim, bits=bits + extra_bits, score=score)

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"]:
        return self.second(self.tap("hidden", self.norm(self.first(x))))
