"""The inception mixer: convolution and pooling for high frequencies, attention for low ones."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.errors import UserError
from formwright.nn.context import EMPTY, Context
from formwright.nn.convolution import average_pool, depthwise_layer, to_channels_first, to_channels_last
from formwright.nn.functional.attention import SOFTMAX_TAPS, attend
from formwright.nn.parts import PARTS, Part, Promises
from formwright.nn.token_mixers.attention import check_heads

_MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


def spread(x: Float[Tensor, "batch *grid channels"], grid: tuple[int, ...], factor: int) -> Tensor:
    """Repeat each place ``factor`` times along every axis and cut to ``grid``: nearest up-sampling to any size."""
    for axis, side in enumerate(grid, start=1):
        x = x.repeat_interleave(factor, axis).narrow(axis, 0, side)
    return x


@PARTS.register("inception_mixer")
class InceptionMixer(Part):
    """``y = W (z + depthwise(z)) + b`` with ``z = (convolved, pooled, attended)``, each from its own channels of ``x``.

    With ``low = attention_heads * dim / heads`` and ``high = dim - low``::

        convolved = gelu(depthwise(W1 x[: high/2]))              # high channels
        pooled    = gelu(W2 max_pool(x[high/2 : high]) + b2)     # high channels
        attended  = up(attention(average_pool(x[high :])))       # low channels, attention on tokens `pool` apart

    Attention heads for the last channels, high frequencies for the first: the share of the former grows with depth.

    Args:
        dim: channels in and out.
        heads: how many heads ``dim`` is split over; must divide it.
        attention_heads: how many of them attend, from 0 (convolution and pooling alone) to ``heads`` (attention alone).
        pool: side of the neighbourhoods that become one token of the attention.
        kernel: odd side of the convolutions and of the max pooling.
        qkv_bias: bias on queries, keys and values.
        grid: the grid that it is built for, of which only the number of axes matters; two if unset.

    Shapes: ``(batch, *grid, dim)`` to the same. Sides need not be multiples of ``pool`` (the last neighbourhood is
    then smaller) nor equal; in the authors' code they must be both.

    Raises:
        UserError: ``heads`` does not divide ``dim``, ``attention_heads`` is out of range, or ``high`` is odd.

    Source: Inception Transformer, arXiv 2205.12956.
    """

    promises: ClassVar[Promises] = Promises(
        exemptions={"residual": "convolution, pooling and attention take channels of their own"}
    )

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        attention_heads: int,
        pool: int = 1,
        kernel: int = 3,
        qkv_bias: bool = True,
        grid: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        check_heads(dim, heads)
        if not 0 <= attention_heads <= heads:
            raise UserError(f"Of {heads} heads, {attention_heads} cannot attend; choose 0 to {heads}.")
        self.attention_heads, self.pool, self.kernel = attention_heads, pool, kernel
        self.dimensions = 2 if grid is None else len(grid)
        self.low = attention_heads * (dim // heads)
        self.high = dim - self.low
        if self.high % 2:
            raise UserError(
                f"{self.high} channels for high frequencies cannot be halved between convolution and pooling; "
                "choose other heads."
            )
        if self.high:
            self.convolution_in = nn.Linear(self.high // 2, self.high, bias=False)
            self.convolution = depthwise_layer(self.high, kernel, bias=False, dimensions=self.dimensions)
            self.pooling_in = nn.Linear(self.high // 2, self.high)
        if self.low:
            self.taps = ("queries", "keys", "values", *SOFTMAX_TAPS, "mixed")  # type: ignore[misc]
            self.qkv = nn.Linear(self.low, 3 * self.low, bias=qkv_bias)
        width = 2 * self.high + self.low
        self.fuse = depthwise_layer(width, kernel, bias=False, dimensions=self.dimensions)
        self.proj = nn.Linear(width, dim)

    def high_frequencies(self, x: Float[Tensor, "batch *grid high"]) -> Float[Tensor, "batch *grid twice_high"]:
        """The convolved and the pooled half."""
        to_convolve, to_pool = x.chunk(2, dim=-1)
        convolved = self.convolution(to_channels_first(self.convolution_in(to_convolve)))
        pooled = _MAX_POOL[self.dimensions](to_channels_first(to_pool), self.kernel, 1, self.kernel // 2)
        return F.gelu(torch.cat([to_channels_last(convolved), self.pooling_in(to_channels_last(pooled))], dim=-1))

    def low_frequencies(self, x: Float[Tensor, "batch *grid low"]) -> Float[Tensor, "batch *grid low"]:
        """Attention over neighbourhoods, brought back to their places."""
        grid = tuple(x.shape[1:-1])
        if self.pool > 1:
            cut = any(side % self.pool for side in grid)
            coarser = average_pool(to_channels_first(x), self.pool, self.pool, ceil_mode=cut, count_include_pad=False)
            x = to_channels_last(coarser)
        batch, *coarse, _ = x.shape
        qkv = self.qkv(x).view(batch, math.prod(coarse), 3, self.attention_heads, self.low // self.attention_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        q, k, v = self.tap("queries", q), self.tap("keys", k), self.tap("values", v)
        y = self.tap("mixed", attend(q, k, v, tap=self.listened(*SOFTMAX_TAPS)))
        y = y.transpose(1, 2).reshape(batch, *coarse, self.low)
        return y if self.pool == 1 else spread(y, grid, self.pool)

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"]:
        if 0 in x.shape[1:-1]:
            return x
        high, low = x[..., : self.high], x[..., self.high :]
        branches = []
        if self.high:
            branches.append(self.high_frequencies(high))
        if self.low:
            branches.append(self.low_frequencies(low))
        z = torch.cat(branches, dim=-1)
        return self.proj(z + to_channels_last(self.fuse(to_channels_first(z))))
