"""Bringing the next tokens of a stream to the blocks of the whole sequence, where every row stands elsewhere in one."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from formwright.nn.functional.blocks import split_axis


class Alignment:
    """The blocks that the next ``time`` tokens of each row lie in, from the beginning of the first of them on.

    Args:
        length: tokens that each row has seen.
        time: how many come now.
        block: tokens of a block.
        mask: true for real ones among them.
    """

    def __init__(
        self, length: Int[Tensor, " batch"], time: int, block: int, mask: Bool[Tensor, "batch time"] | None
    ) -> None:
        self.block, self.blocks = block, math.ceil((block - 1 + time) / block)
        self.offset = length % block
        self.first = length // block
        count = torch.full_like(length, time) if mask is None else mask.sum(1)
        self.filled = self.offset + count
        places = torch.arange(self.blocks * block, device=length.device)
        self.real = (places < self.filled[:, None]).view(length.shape[0], self.blocks, block)
        self._places = self.offset[:, None] + torch.arange(time, device=length.device)

    def blocks_of(
        self, begun: Float[Tensor, "batch block *rest"], new: Float[Tensor, "batch time *rest"]
    ) -> Float[Tensor, "batch blocks block *rest"]:
        """The tokens of the block that was begun, and the new ones behind them."""
        x = torch.cat(
            [begun, begun.new_zeros(begun.shape[0], self.blocks * self.block - self.block, *begun.shape[2:])], 1
        )
        x = x.scatter(1, self._index(new), new.to(x.dtype))
        return split_axis(x, 1, self.blocks, self.block)

    def new_of(self, x: Float[Tensor, "batch blocks block *rest"]) -> Float[Tensor, "batch time *rest"]:
        """Of all tokens of the blocks, the new ones."""
        x = x.flatten(1, 2)
        return x.gather(1, self._index(x))

    def _index(self, like: Tensor) -> Tensor:
        places = self._places.view(*self._places.shape, *[1] * (like.ndim - 2))
        return places.expand(-1, -1, *like.shape[2:])

    def begun_of(self, x: Float[Tensor, "batch blocks block *rest"]) -> Float[Tensor, "batch block *rest"]:
        """The block that is begun and not finished now (anything, if there is none)."""
        last = (self.filled // self.block).clamp(max=self.blocks - 1)
        return x[torch.arange(x.shape[0], device=x.device), last]

    def keep_finished(
        self, cache: Float[Tensor, "batch slots *rest"], new: Float[Tensor, "batch blocks *rest"]
    ) -> None:
        """Write what stands for each block that is finished now to its place, in place."""
        if torch.compiler.is_exporting():  # each slot takes the block that falls on it, if one does
            steps = torch.arange(cache.shape[1], device=new.device) - self.first[:, None]
            fallen = (steps >= 0) & (steps < (self.filled // self.block)[:, None])
            rows = torch.arange(new.shape[0], device=new.device)[:, None]
            found = new[rows, steps.clamp(0, self.blocks - 1)].to(cache.dtype)
            cache.copy_(torch.where(fallen.view(*fallen.shape, *[1] * (new.ndim - 2)), found, cache))
            return
        finished = torch.arange(self.blocks, device=new.device) < (self.filled // self.block)[:, None]
        rows, blocks = finished.nonzero(as_tuple=True)
        cache[rows, self.first[rows] + blocks] = new[rows, blocks].to(cache.dtype)


def same_block(before: Int[Tensor, " batch"], after: Int[Tensor, " batch"], block: int) -> bool:
    """Whether each row is in the block still (which is kept token by token) that it was in after fewer tokens."""
    return bool((before // block == after // block).all())
