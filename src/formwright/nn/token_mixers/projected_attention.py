"""Softmax attention whose projections are no dense layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from formwright.nn.channel_mixers.lookup_mlp import LookupLayer
from formwright.nn.channel_mixers.pattention import Pattention
from formwright.nn.parts import PARTS, RESIDUAL, Axis, Promises
from formwright.nn.token_mixers.attention import Attention


class _ProjectedAttention(Attention):
    """Attention that a subclass builds the projections of."""

    resizable: ClassVar[Mapping[str, str]] = {}
    input_layers: ClassVar[tuple[str, ...]] = ()
    output_layers: ClassVar[tuple[str, ...]] = ()

    def _build_projections(self, dim: int, *, qkv_bias: bool, bias: bool) -> None:
        """None of attention's own."""

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return {}

    def fold_scale_before(self, scale: Tensor, shift: Tensor | None) -> bool:
        return False

    def fold_scale_after(self, scale: Tensor) -> bool:
        return False


@PARTS.register("pattention_attention")
class PattentionAttention(_ProjectedAttention):
    """Multi-head attention whose queries, keys, values and output are each a layer of parameter tokens.

    ``y = Po(softmax(Pq(x) Pk(x)ᵀ / sqrt(head_dim)) Pv(x))`` with ``P`` a
    :class:`~formwright.nn.channel_mixers.pattention.Pattention`.

    Args:
        dim: channels in and out.
        heads: number of heads; must divide ``dim``.
        tokens: parameter tokens of each of queries, keys and values; ``dim`` if unset.
        output_tokens: those of the output; ``tokens`` if unset.
        normalization, std, value_std: see :class:`~formwright.nn.channel_mixers.pattention.Pattention`.
        causal, rotary, dropout: see :class:`~formwright.nn.token_mixers.attention.Attention`.

    Shapes: ``(batch, *grid, dim)`` to the same.

    Source: TokenFormer, arXiv 2410.23168.
    """

    input_layers: ClassVar[tuple[str, ...]] = ("q.keys", "k.keys", "v.keys")
    output_layers: ClassVar[tuple[str, ...]] = ("proj.values",)

    def __init__(
        self,
        dim: int,
        *,
        heads: int | None = None,
        tokens: int | None = None,
        output_tokens: int | None = None,
        normalization: str = "l2_norm_gelu",
        std: float = 0.02,
        value_std: float | None = None,
        causal: bool = False,
        rotary: Mapping[str, Any] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(dim, heads=heads, causal=causal, rotary=rotary, dropout=dropout)
        tokens = dim if tokens is None else tokens
        options = {"normalization": normalization, "std": std, "value_std": value_std}
        self.q, self.k, self.v = (Pattention(dim, tokens=tokens, **options) for _ in range(3))  # type: ignore[arg-type]
        self.proj = Pattention(dim, tokens=output_tokens or tokens, **options)  # type: ignore[arg-type,assignment]

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        read = {f"{name}.keys": (None, RESIDUAL) for name in ("q", "k", "v")}
        return {**read, "proj.values": (None, RESIDUAL)}

    def _read(self, tokens: Tensor) -> Tensor:
        return torch.cat([self.q(tokens), self.k(tokens), self.v(tokens)], dim=-1)

    def _write(self, y: Tensor) -> Tensor:
        return self.proj(y)


@PARTS.register("lookup_attention")
class LookupAttention(_ProjectedAttention):
    """Multi-head attention whose queries, keys and values are looked up in tables, without an output projection.

    Queries, keys and values have tables of their own, and one address serves all three; see
    :class:`~formwright.nn.channel_mixers.lookup_mlp.LookupLayer`.

    Args:
        dim: channels in and out.
        heads: number of heads; must divide ``dim``.
        bits: channels that a table hashes.
        score: how much of a row a token takes.
        causal, rotary, dropout: see :class:`~formwright.nn.token_mixers.attention.Attention`.

    Shapes: ``(batch, *grid, dim)`` to the same.

    Source: MemoryFormer, arXiv 2411.12992.
    """

    promises: ClassVar[Promises] = Promises(exemptions={"residual": "a table hashes neighbouring channels together"})

    def __init__(
        self,
        dim: int,
        *,
        heads: int | None = None,
        bits: int = 8,
        score: str = "vertex_probability",
        causal: bool = False,
        rotary: Mapping[str, Any] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(dim, heads=heads, causal=causal, rotary=rotary, dropout=dropout)
        self.lookup = LookupLayer(dim, 3 * dim, bits=bits, score=score)

    def _read(self, tokens: Tensor) -> Tensor:
        return self.lookup(tokens)

    def _write(self, y: Tensor) -> Tensor:
        return y
