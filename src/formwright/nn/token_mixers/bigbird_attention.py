"""BigBird's attention: blocks around, blocks at random, and blocks at the ends that see all."""

from __future__ import annotations

import functools
import math

from formwright.nn.functional.block_sparse import bigbird_layout, block_sparse_attention
from formwright.nn.parts import PARTS, Promises
from formwright.nn.token_mixers.multi_head import Heads, Mask, MultiHeadMixer, check_positive, refuse_causal

_layout = functools.lru_cache(maxsize=64)(bigbird_layout)


@PARTS.register("bigbird_attention")
class BigBirdAttention(MultiHeadMixer):
    """Multi-head attention between blocks: neighbours, some at random, and all to and from the first and the last.

    The random blocks are drawn once, from ``seed`` and the number of blocks, for all heads (the authors draw them for
    each head). Cost is linear in the number of tokens.

    Args:
        dim: channels in and out.
        heads: number of heads; must divide ``dim`` unless ``head_dim`` is given.
        head_dim: channels of a head; ``dim / heads`` if unset.
        block: tokens of a block; the last one may be shorter.
        window: neighbouring blocks that are seen, the own one in the middle.
        random: how many blocks more each sees.
        ends: blocks at each end that all see and that see all.
        seed: decides the random blocks.
        causal: refused: the last block is seen by all.

    Shapes: ``(batch, time, dim)`` to the same; ``context.mask`` ``(batch, time)`` true for real tokens.

    Raises:
        UserError: ``dim`` cannot be split over the heads, a size is below 1, or it is asked to be causal.

    Source: Big Bird: Transformers for Longer Sequences, arXiv 2007.14062.
    """

    uses = MultiHeadMixer.uses - {"segments"}
    promises = Promises(
        dimensions=(1,),
        exemptions={"padding": "the last block is seen by all, and behind padding it is another block"},
    )

    def __init__(
        self,
        dim: int,
        *,
        heads: int = 4,
        head_dim: int | None = None,
        block: int = 64,
        window: int = 3,
        random: int = 3,
        ends: int = 1,
        seed: int = 0,
        causal: bool = False,
    ) -> None:
        check_positive(block=block, window=window)
        refuse_causal("BigBird", "its last block is seen by all others", causal)
        super().__init__(dim, heads, head_dim)
        self.block, self.window, self.random, self.ends, self.seed = block, window, random, ends, seed

    def attend(self, heads: tuple[Heads, ...], mask: Mask | None, prefix: int) -> Heads:
        q, k, v = heads
        blocks = math.ceil(q.shape[1] / self.block)
        layout = _layout(blocks, window=self.window, random=self.random, ends=self.ends, seed=self.seed)
        return block_sparse_attention(q, k, v, block=self.block, layout=layout, mask=mask)
