"""The two sparse patterns of the Sparse Transformer."""

from __future__ import annotations

from torch import Tensor

from formwright.errors import UserError
from formwright.nn.functional.block_attention import fixed_attention, strided_attention
from formwright.nn.parts import PARTS
from formwright.nn.token_mixers.multi_head import CachedMixer, Heads, Mask, check_positive


@PARTS.register("fixed_attention")
class FixedAttention(CachedMixer):
    """Multi-head attention to the own block and to the last ``summary`` tokens of every other, in one softmax.

    Class tokens in front see all and are seen by all. The Long Range Arena's form differs: the first token of each
    block is a summary too, and tokens see only earlier ones although the tasks are not causal. Here, as in the paper,
    the summaries are last, and the pattern is causal if asked to be.

    Args:
        dim: channels in and out.
        heads: number of heads; must divide ``dim`` unless ``head_dim`` is given.
        head_dim: channels of a head; ``dim / heads`` if unset.
        block: tokens of a block; the last one may be shorter.
        summary: how many tokens at the end of a block the others see.
        causal: whether tokens see only those before them.

    Shapes: ``(batch, time, dim)`` to the same; ``context.mask`` ``(batch, time)`` true for real tokens.

    Raises:
        UserError: ``dim`` cannot be split over the heads, a block or summary has no token, a summary is longer than
            its block, or a class token stands in front of causal attention.

    Source: Generating Long Sequences with Sparse Transformers, arXiv 1904.10509.
    """

    def __init__(
        self,
        dim: int,
        *,
        heads: int = 4,
        head_dim: int | None = None,
        block: int = 128,
        summary: int = 32,
        causal: bool = False,
    ) -> None:
        check_positive(block=block, summary=summary)
        if summary > block:
            raise UserError(f"A summary of {summary} tokens is longer than its block of {block}; choose a smaller one.")
        super().__init__(dim, heads, head_dim)
        self.block, self.summary, self.causal = block, summary, causal
        self.promise(causal=causal)

    def attend(self, heads: tuple[Heads, ...], mask: Mask | None, prefix: int) -> Heads:
        if prefix and self.causal:
            raise UserError("A class token sees all tokens, which causal attention forbids; pool the tokens instead.")
        return fixed_attention(
            *heads, block=self.block, summary=self.summary, causal=self.causal, mask=mask, leading=prefix
        )

    def sees(self, queries: Tensor, keys: Tensor) -> Tensor:
        return (queries // self.block == keys // self.block) | (keys % self.block >= self.block - self.summary)


@PARTS.register("strided_attention")
class StridedAttention(CachedMixer):
    """Multi-head attention to tokens less than ``stride`` away and to those a multiple of it away, in one softmax.

    Args:
        dim: channels in and out.
        heads: number of heads; must divide ``dim`` unless ``head_dim`` is given.
        head_dim: channels of a head; ``dim / heads`` if unset.
        stride: near the square root of the length, cost grows with its power of 1.5.
        causal: whether tokens see only those before them.

    Shapes: ``(batch, time, dim)`` to the same; ``context.mask`` ``(batch, time)`` true for real tokens.

    Raises:
        UserError: ``dim`` cannot be split over the heads, or the stride is below 1.

    Source: Generating Long Sequences with Sparse Transformers, arXiv 1904.10509.
    """

    def __init__(
        self, dim: int, *, heads: int = 4, head_dim: int | None = None, stride: int = 64, causal: bool = False
    ) -> None:
        check_positive(stride=stride)
        super().__init__(dim, heads, head_dim)
        self.stride, self.causal = stride, causal
        self.promise(causal=causal)

    def attend(self, heads: tuple[Heads, ...], mask: Mask | None, prefix: int) -> Heads:
        return strided_attention(*heads, stride=self.stride, causal=self.causal, mask=mask)

    def sees(self, queries: Tensor, keys: Tensor) -> Tensor:
        distance = queries - keys
        return (distance < self.stride) | (distance % self.stride == 0)
