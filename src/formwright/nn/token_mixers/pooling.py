"""Average pooling as a token mixer."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from formwright.nn.context import EMPTY, Context
from formwright.nn.convolution import average_pool, to_channels_first, to_channels_last
from formwright.nn.parts import PARTS, Part, Promises


@PARTS.register("pooling")
class Pooling(Part):
    """``y = mean of the neighbourhood - x``; places outside the grid and masked tokens do not count.

    The subtraction undoes the block's own residual, so a constant map gives exactly zero, borders included. It has no
    parameters. Cost is linear in the number of tokens.

    Args:
        dim: channels.
        kernel: odd side of the neighbourhood.

    Shapes: ``(batch, *grid, dim)`` to the same. Source: MetaFormer Is Actually What You Need for Vision,
    arXiv 2111.11418.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"mask"})
    promises: ClassVar[Promises] = Promises()
    passes_scale: ClassVar[bool] = True

    def __init__(self, dim: int, *, kernel: int = 3) -> None:
        super().__init__()
        self.kernel = kernel

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"]:
        if 0 in x.shape[1:-1]:
            return x
        if context.mask is None:
            return self._mean(x, zeros_count=False) - x
        real = context.mask.to(x.dtype).unsqueeze(-1)
        total, share = self._mean(x * real, zeros_count=True), self._mean(real, zeros_count=True)
        return (total / share.clamp(min=0.5 / self.kernel ** (x.ndim - 2)) - x) * real

    def _mean(self, x: Tensor, *, zeros_count: bool) -> Tensor:
        """Over every neighbourhood, with the zeros outside the grid or without."""
        window = (self.kernel, 1, self.kernel // 2)
        return to_channels_last(average_pool(to_channels_first(x), *window, count_include_pad=zeros_count))
