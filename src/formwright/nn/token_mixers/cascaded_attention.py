"""Cascaded group attention in windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.errors import UserError
from formwright.nn.context import EMPTY, Context
from formwright.nn.convolution import ConvNorm, LinearNorm, to_channels_first, to_channels_last
from formwright.nn.functional.attention import SOFTMAX_TAPS
from formwright.nn.functional.windows import merge_windows, partition_windows
from formwright.nn.parts import PARTS, Part, Promises
from formwright.nn.token_mixers.attention import check_heads

#: Of each head, whose number follows: the heads come one after the other.
_TAPS = ("queries", "keys", "values", *SOFTMAX_TAPS)


def distances(window: tuple[int, ...]) -> Tensor:
    """Which entry of a bias table belongs to a query and a key: ``(places, places)``, the same for mirrored offsets.

    Entries are numbered by the absolute offset along each axis, row by row: in a window of 7 x 7, ``7 |dy| + |dx|``.
    """
    places = torch.cartesian_prod(*[torch.arange(side) for side in window]).view(-1, len(window))
    offsets = (places[:, None] - places[None]).abs()
    index = torch.zeros_like(offsets[..., 0])
    for axis, side in enumerate(window):
        index = index * side + offsets[..., axis]
    return index


@PARTS.register("cascaded_group_attention")
class CascadedGroupAttention(Part):
    """Attention in windows, each head on its own share of the channels plus what the head before it found.

    The channels are split over the heads, ``x = [x_1 ... x_h]``::

        f_1 = x_1,  f_i = x_i + o_(i-1)
        q, k, v = norm(W_i f_i),  q = norm(depthwise_convolution(q))
        o_i = softmax(q kᵀ / sqrt(key_dim) + b_i) v        b_i: a learned value for each absolute offset
        y = norm(W relu([o_1 ... o_h]))

    A grid larger than a window is cut into windows. Where it is no multiple, zeros fill the last ones, and as in the
    authors' code these are attended to.

    Args:
        dim: channels in and out; the values of a head have ``dim / heads``.
        grid: the grid that it is built for.
        heads: number of heads.
        key_dim: channels of a query and of a key.
        window: side of a window; a shorter side of the grid is taken whole.
        kernels: side of the convolution of the queries, head by head; more than heads are ignored.
        norm_weight: initial weight of the last norm; at 0 the residual branch starts at zero.

    Shapes: ``(batch, *grid, dim)`` to the same.

    Raises:
        UserError: ``dim`` cannot be split over the heads, there are fewer kernels than heads, or another grid comes
            than the one that it was built for.

    Source: EfficientViT: Memory Efficient Vision Transformer with Cascaded Group Attention, arXiv 2305.07027.
    """

    promises: ClassVar[Promises] = Promises(
        any_grid=False, exemptions={"residual": "each head takes channels of its own"}
    )
    no_decay: ClassVar[tuple[str, ...]] = ("bias_table",)

    def __init__(
        self,
        dim: int,
        *,
        grid: tuple[int, ...],
        heads: int = 4,
        key_dim: int = 16,
        window: int = 7,
        kernels: Sequence[int] = (5, 5, 5, 5),
        norm_weight: float = 1.0,
    ) -> None:
        super().__init__()
        check_heads(dim, heads)
        if len(kernels) < heads:
            raise UserError(f"Each of {heads} heads needs a kernel for its queries, got {len(kernels)} kernels.")
        self.grid = tuple(grid)
        self.window = tuple(min(window, side) for side in grid)
        self.heads = heads
        self.key_dim = key_dim
        self.value_dim = dim // heads
        axes = len(self.grid)
        self.qkv = nn.ModuleList(LinearNorm(self.value_dim, 2 * key_dim + self.value_dim) for _ in range(heads))
        self.query_convs = nn.ModuleList(
            ConvNorm(key_dim, key_dim, kernel, groups=key_dim, dimensions=axes) for kernel in kernels[:heads]
        )
        self.proj = LinearNorm(dim, dim, norm_weight=norm_weight)
        index = distances(self.window)
        self.bias_table = nn.Parameter(torch.zeros(heads, len(index)))
        self.taps = tuple(f"{name}.{head}" for head in range(heads) for name in _TAPS)  # type: ignore[misc]
        self.bias_index: Tensor
        self.register_buffer("bias_index", index, persistent=False)

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"]:
        grid = tuple(x.shape[1:-1])
        if grid != self.grid:
            given, expected = " x ".join(map(str, grid)), " x ".join(map(str, self.grid))
            raise UserError(
                f"Cascaded group attention was built for a grid of {expected} tokens and got {given}; "
                "build the model for this input size (image_size=...)."
            )
        return merge_windows(self.attend(partition_windows(x, self.window)), grid)

    def attend(self, x: Float[Tensor, "windows *window channels"]) -> Float[Tensor, "windows *window channels"]:
        """Attention of every place of a window to every place of the same window."""
        biases = self.bias_table[:, self.bias_index]
        outputs: list[Tensor] = []
        for head, (share, qkv, query_conv, bias) in enumerate(
            zip(x.chunk(self.heads, dim=-1), self.qkv, self.query_convs, biases, strict=True)
        ):
            features = share + outputs[-1] if outputs else share
            q, k, v = qkv(features).split([self.key_dim, self.key_dim, self.value_dim], dim=-1)
            q = to_channels_last(query_conv(to_channels_first(q)))
            q = self.tap(f"queries.{head}", q.flatten(1, -2))
            k = self.tap(f"keys.{head}", k.flatten(1, -2))
            v = self.tap(f"values.{head}", v.flatten(1, -2))
            scores = torch.baddbmm(bias, q, k.transpose(1, 2), alpha=self.key_dim**-0.5)
            weights = self.tap(f"weights.{head}", self.tap(f"scores.{head}", scores).softmax(-1))
            outputs.append((weights @ v).view(share.shape))
        return self.proj(F.relu(torch.cat(outputs, dim=-1)))
