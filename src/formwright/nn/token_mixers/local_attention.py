"""Softmax attention inside blocks of the sequence."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from formwright.nn.functional.attention import SOFTMAX_TAPS
from formwright.nn.functional.block_attention import local_attention
from formwright.nn.parts import PARTS
from formwright.nn.token_mixers.multi_head import CachedMixer, Heads, Mask, check_positive


@PARTS.register("local_attention")
class LocalAttention(CachedMixer):
    """Multi-head attention inside blocks: ``softmax(q kᵀ / sqrt(head_dim)) v`` over the tokens of a block.

    Cost is linear in the number of tokens, and nothing crosses the border of a block.

    Args:
        dim: channels in and out.
        heads: number of heads; must divide ``dim`` unless ``head_dim`` is given.
        head_dim: channels of a head; ``dim / heads`` if unset.
        block: tokens of a block; the last one may be shorter.
        causal: whether tokens see only those before them; it then streams with a cache of one block.

    Shapes: ``(batch, time, dim)`` to the same; ``context.mask`` ``(batch, time)`` true for real tokens.

    Raises:
        UserError: ``dim`` cannot be split over the heads, or a block has no token.

    Source: the local attention of Long Range Arena, arXiv 2011.04006, without its biases.
    """

    taps: ClassVar[tuple[str, ...]] = ("queries", "keys", "values", *SOFTMAX_TAPS, "mixed")

    def __init__(
        self, dim: int, *, heads: int = 4, head_dim: int | None = None, block: int = 64, causal: bool = False
    ) -> None:
        check_positive(block=block)
        super().__init__(dim, heads, head_dim)
        self.block, self.causal = block, causal
        self.promise(causal=causal)

    def attend(self, heads: tuple[Heads, ...], mask: Mask | None, prefix: int) -> Heads:
        return local_attention(
            *heads, block=self.block, causal=self.causal, mask=mask, tap=self.listened(*SOFTMAX_TAPS)
        )

    def cache_slots(self, capacity: int) -> int:
        return min(capacity, self.block)

    def sees(self, queries: Tensor, keys: Tensor) -> Tensor:
        return queries // self.block == keys // self.block
