"""Average pooling as a token mixer."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from formwright.nn.context import EMPTY, Context
from formwright.nn.convolution import to_channels_first, to_channels_last
from formwright.nn.part import PARTS, Part, Promises

_AVERAGE_POOL = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


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
    ignores_shift: ClassVar[bool] = True

    def __init__(self, dim: int, *, kernel: int = 3) -> None:
        super().__init__()
        self.kernel = kernel

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"]:
        if 0 in x.shape[1:-1]:
            return x
        if context.mask is None and (x.ndim < 5 or min(x.shape[1:-1]) >= self.kernel):
            pool = _AVERAGE_POOL[x.ndim - 2]
            mean = pool(to_channels_first(x), self.kernel, 1, self.kernel // 2, count_include_pad=False)
            return to_channels_last(mean) - x
        real = x.new_ones(x.shape[:-1]) if context.mask is None else context.mask.to(x.dtype)
        real = real.unsqueeze(-1)
        total, share = self._zero_padded_mean(x * real), self._zero_padded_mean(real)
        return (total / share.clamp(min=0.5 / self.kernel ** (x.ndim - 2)) - x) * real

    def _zero_padded_mean(self, x: Tensor) -> Tensor:
        """Zeros outside the grid count; PyTorch's own padding refuses volumes smaller than the kernel."""
        axes = x.ndim - 2
        padded = F.pad(to_channels_first(x), [self.kernel // 2] * 2 * axes)
        return to_channels_last(_AVERAGE_POOL[axes](padded, self.kernel, 1))
