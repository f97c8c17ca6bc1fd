"""Attention to blocks that a learned sorting brings."""

from __future__ import annotations

import math

from torch import nn

from formwright.nn.functional.blocks import real_tokens, split_blocks
from formwright.nn.functional.sorted_blocks import sinkhorn, sorted_block_attention
from formwright.nn.parts import PARTS, Promises
from formwright.nn.token_mixers.linformer_attention import check_length, places_of
from formwright.nn.token_mixers.multi_head import Heads, Mask, MultiHeadMixer, check_positive, refuse_causal


@PARTS.register("sinkhorn_attention")
class SinkhornAttention(MultiHeadMixer):
    """Multi-head attention to the own block, plus that to a mixture of blocks: ``R = sinkhorn(sum of a block's k W)``.

    The Long Range Arena's code normalises rows alone (``iterations=0``), and its blocks hold every n-th token instead
    of neighbours; here a block is contiguous, as in the paper.

    Args:
        dim: channels in and out.
        heads: number of heads; must divide ``dim`` unless ``head_dim`` is given.
        head_dim: channels of a head; ``dim / heads`` if unset.
        block: tokens of a block; the last one may be shorter.
        iterations: of Sinkhorn's normalisation of rows and columns.
        length: the longest sequence, class tokens included; that of the grid if unset.
        causal: refused: the sorting looks at all blocks.

    Shapes: ``(batch, time, dim)`` to the same, ``time`` up to ``length``; ``context.mask`` ``(batch, time)`` true for
    real tokens.

    Raises:
        UserError: ``dim`` cannot be split over the heads, the sequence is too long, or it is asked to be causal.

    Source: Sparse Sinkhorn Attention, arXiv 2002.11296.
    """

    promises = Promises(dimensions=(1,), any_grid=False)

    def __init__(
        self,
        dim: int,
        *,
        heads: int = 4,
        head_dim: int | None = None,
        block: int = 64,
        iterations: int = 5,
        length: int | None = None,
        grid: tuple[int, ...] | None = None,
        causal: bool = False,
    ) -> None:
        check_positive(block=block)
        refuse_causal("Sinkhorn attention", "its sorting looks at all blocks", causal)
        super().__init__(dim, heads, head_dim)
        self.block, self.iterations = block, iterations
        self.length = places_of(grid, length, "Sinkhorn attention")
        self.sorting = nn.Linear(self.head_dim, math.ceil(self.length / block), bias=False)

    def attend(self, heads: tuple[Heads, ...], mask: Mask | None, prefix: int) -> Heads:
        q, k, v = heads
        check_length(q.shape[1], self.length, "Sinkhorn attention")
        real = real_tokens(mask, k)
        sums = split_blocks(k * real[..., None, None], self.block).sum(2)  # (batch, blocks, heads, head_dim)
        blocks = sums.shape[1]
        real_blocks = split_blocks(real, self.block).any(2)
        both = (real_blocks[:, :, None] & real_blocks[:, None])[:, None]
        logits = self.sorting(sums)[..., :blocks].transpose(1, 2)
        sorting = sinkhorn(logits, self.iterations, both)
        return sorted_block_attention(q, k, v, sorting.to(q.dtype), block=self.block, mask=mask)
