"""Attention whose queries, keys and values come from convolutions, keys and values on a coarser grid."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.errors import UnknownNameError, UserError
from formwright.nn.context import EMPTY, Context, split_prefix
from formwright.nn.convolution import (
    CONVOLUTIONS,
    ConvNorm,
    average_pool,
    to_channels_first,
    to_channels_last,
    zero_padding,
)
from formwright.nn.functional.attention import SOFTMAX_TAPS, attend
from formwright.nn.parts import PARTS, Axis, Part, Promises
from formwright.nn.token_mixers.attention import check_heads, key_mask

_MAX_POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


class DepthwiseProjection(ConvNorm):
    """A depthwise convolution and batch norm on ``(batch, *grid, channels)``; the grid has ``ceil(side / stride)``."""

    def __init__(self, dim: int, *, kernel: int, stride: int, dimensions: int) -> None:
        super().__init__(dim, dim, kernel, stride=stride, groups=dim, dimensions=dimensions)
        self.stride = stride

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], mask: Bool[Tensor, "batch *grid"] | None = None
    ) -> Float[Tensor, "batch *coarser_grid channels"]:
        coarse = None if mask is None else self.coarsen_mask(mask)
        return to_channels_last(super().forward(to_channels_first(x), coarse))

    def coarsen_mask(self, mask: Bool[Tensor, "batch *grid"]) -> Tensor:
        """A token is real if the one at its centre is: so padding a grid gives what the grid alone gives."""
        return mask[(slice(None), *[slice(None, None, self.stride)] * (mask.ndim - 1))]


class AverageProjection(nn.Module):
    """Means over windows of ``(batch, *grid, channels)``; the last window of a side may be incomplete."""

    def __init__(self, dim: int, *, kernel: int, stride: int, dimensions: int) -> None:
        super().__init__()
        self.window = (kernel, stride, kernel // 2)

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], mask: Bool[Tensor, "batch *grid"] | None = None
    ) -> Float[Tensor, "batch *coarser_grid channels"]:
        if 0 in x.shape[1:-1]:
            return x
        return to_channels_last(average_pool(to_channels_first(x), *self.window, ceil_mode=True))

    def coarsen_mask(self, mask: Bool[Tensor, "batch *grid"]) -> Tensor:
        """A token is real if its window holds a real one."""
        if 0 in mask.shape[1:]:
            return mask
        return _MAX_POOLS[mask.ndim - 1](mask[:, None].float(), *self.window, ceil_mode=True)[:, 0] > 0


Projection = DepthwiseProjection | AverageProjection

#: How queries, and keys and values, are made of the tokens; none means that they are the tokens themselves.
_METHODS: dict[str, tuple[type[Projection] | None, type[Projection] | None]] = {
    "dw_bn": (DepthwiseProjection, DepthwiseProjection),
    "avg": (None, AverageProjection),
    "linear": (None, None),
}


@PARTS.register("convolutional_projection_attention")
class ConvolutionalProjectionAttention(Part):
    """Multi-head attention between tokens that were convolved first, each kind by its own depthwise convolution.

    ``softmax(q kᵀ / sqrt(dim)) v`` with ``q = conv_q(x) Wq``, ``k = conv_k(x) Wk`` and ``v = conv_v(x) Wv``, then a
    projection. Keys and values have stride ``stride``, so with 2 on a 2-D grid the scores cost a quarter.
    Placeless tokens (a class token) are convolved with nothing and take part in everything else.

    The scale is of all of ``dim``, not of a head's share: the authors' code, whose weights are made for it.

    Args:
        dim: channels in and out.
        heads: number of heads; must divide ``dim``.
        method: ``dw_bn`` (depthwise convolution and batch norm), ``avg`` (keys and values are means over windows,
            queries the tokens themselves) or ``linear`` (all are the tokens themselves).
        kernel: side of the convolutions or windows; odd.
        stride: stride of keys and values.
        dimensions: number of grid axes.

    Shapes: ``(batch, *grid, dim)``, or ``(batch, prefix + places, dim)`` with ``context.grid``, to the same.
    ``context.mask``: padding is zero to the convolutions and no key. Where no key is real, the attended value is zero.
    (``avg`` divides by the size of windows that the edge of the grid cuts short, so there padding is not quite as if it
    were not there.)

    Raises:
        UserError: ``dim`` cannot be split over the heads, the kernel is even, or the method is unknown.

    Source: CvT: Introducing Convolutions to Vision Transformers, arXiv 2103.15808.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"mask", "prefix", "grid"})
    promises: ClassVar[Promises] = Promises(
        exemptions={
            "gradients": "what is added to all keys alike changes no weight: the bias of the keys has no gradient, and "
            "without a class token the last bias of their convolution has none either"
        }
    )
    resizable: ClassVar[dict[str, str]] = {"heads": "heads"}
    taps: ClassVar[tuple[str, ...]] = ("queries", "keys", "values", *SOFTMAX_TAPS, "mixed")

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        method: str = "dw_bn",
        kernel: int = 3,
        stride: int = 2,
        dimensions: int = 2,
    ) -> None:
        super().__init__()
        check_heads(dim, heads)
        if method not in _METHODS:
            raise UnknownNameError("projection method", method, _METHODS)
        if kernel % 2 == 0 or dimensions not in CONVOLUTIONS:
            raise UserError(
                f"Convolutional projections need an odd kernel and a grid of 1, 2 or 3 dimensions, got kernel {kernel} "
                f"and {dimensions} dimensions."
            )
        self.heads, self.head_dim = heads, dim // heads
        self.scale = dim**-0.5  # stays what it was when heads are cut
        self.dimensions = dimensions
        of_queries, of_keys = _METHODS[method]
        if of_keys is AverageProjection:
            reason = "the edge of the grid cuts windows short, and padding does not"
            self.promise(exemptions={**self.promises.exemptions, "padding": reason})
        window = {"kernel": kernel, "dimensions": dimensions}
        self.query_projection = None if of_queries is None else of_queries(dim, stride=1, **window)
        self.key_projection = None if of_keys is None else of_keys(dim, stride=stride, **window)
        self.value_projection = None if of_keys is None else of_keys(dim, stride=stride, **window)
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.proj = nn.Linear(dim, dim)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        heads, residual = Axis("heads", block=self.head_dim), Axis("residual")
        axes: dict[str, tuple[Axis | None, ...]] = {"proj.weight": (residual, heads)}
        for name in ("query", "key", "value"):
            axes |= {f"{name}.weight": (heads, residual)}
            if not isinstance(getattr(self, f"{name}_projection"), DepthwiseProjection):
                continue
            axes[f"{name}_projection.conv.weight"] = (residual, *[None] * (1 + self.dimensions))
            for leaf in ("norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"):
                axes[f"{name}_projection.{leaf}"] = (residual,)
        return axes

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"]:
        tokens, mask = zero_padding(x, context), context.mask
        prefix = None
        if context.grid is not None:
            prefix, tokens = split_prefix(tokens, context)
            mask = None if mask is None else mask[:, context.prefix :].view(tokens.shape[:-1])
        q, k, v = (
            linear(_on_one_axis(tokens if projection is None else projection(tokens, mask), prefix))
            .unflatten(-1, (self.heads, self.head_dim))
            .transpose(1, 2)
            for projection, linear in (
                (self.query_projection, self.query),
                (self.key_projection, self.key),
                (self.value_projection, self.value),
            )
        )
        keys = None if context.mask is None else key_mask(self._mask_of_keys(context.mask, context))
        q, k, v = self.tap("queries", q), self.tap("keys", k), self.tap("values", v)
        y = self.tap("mixed", attend(q, k, v, keys, scale=self.scale, tap=self.listened(*SOFTMAX_TAPS)))
        return self.proj(y.transpose(1, 2).flatten(2)).view(x.shape)

    def _mask_of_keys(self, mask: Bool[Tensor, "batch *tokens"], context: Context) -> Bool[Tensor, "batch keys"]:
        if self.key_projection is None:
            return mask.flatten(1)
        if context.grid is None:
            return self.key_projection.coarsen_mask(mask).flatten(1)
        places = mask[:, context.prefix :].reshape(mask.shape[0], *context.grid)
        return torch.cat([mask[:, : context.prefix], self.key_projection.coarsen_mask(places).flatten(1)], dim=1)


def _on_one_axis(places: Float[Tensor, "batch *grid channels"], prefix: Tensor | None) -> Tensor:
    places = places.flatten(1, -2)
    return places if prefix is None else torch.cat([prefix, places], dim=1)
