"""Longformer's attention: a sliding window, and global tokens with projections of their own."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from formwright.nn.functional.blocks import split_axis
from formwright.nn.functional.dense import dense
from formwright.nn.functional.global_window import global_window_attention
from formwright.nn.layers import scalable, scale_input
from formwright.nn.parts import PARTS, Axis
from formwright.nn.token_mixers.multi_head import Heads, Mask, MultiHeadMixer, check_positive, refuse_causal

#: Of the global tokens' full attention.
_WHOLE = ("whole_queries", "whole_keys", "whole_values")


@PARTS.register("longformer_attention")
class LongformerAttention(MultiHeadMixer):
    """Multi-head attention within ``window // 2`` places on each side, and to the first tokens, which see all.

    The global tokens are class tokens in front and the first ``global_tokens`` others. Their full attention has
    queries, keys and values of its own. Cost is linear in the number of tokens.

    Args:
        dim: channels in and out.
        heads: number of heads; must divide ``dim`` unless ``head_dim`` is given.
        head_dim: channels of a head; ``dim / heads`` if unset.
        window: places that a token sees, half of them on each side.
        global_tokens: how many tokens at the beginning are global, class tokens aside.
        causal: refused: tokens see both sides (``attention`` with ``causal`` and ``window`` sees one).

    Shapes: ``(batch, time, dim)`` to the same; ``context.mask`` ``(batch, time)`` true for real tokens.

    Raises:
        UserError: ``dim`` cannot be split over the heads, there is no window, or it is asked to be causal.

    Source: Longformer: The Long-Document Transformer, arXiv 2004.05150. Equal to transformers' ``LongformerModel``'s
    attention (without biases, for a window that is a multiple of 2 and global tokens that are first).
    """

    taps: ClassVar[tuple[str, ...]] = (*MultiHeadMixer.taps, *_WHOLE)

    def __init__(
        self,
        dim: int,
        *,
        heads: int = 4,
        head_dim: int | None = None,
        window: int = 512,
        global_tokens: int = 1,
        causal: bool = False,
    ) -> None:
        check_positive(window=window)
        refuse_causal("Longformer", "its window has two sides and its global tokens see all", causal)
        super().__init__(dim, heads, head_dim)
        self.window, self.global_tokens = window, global_tokens
        self.whole = nn.Linear(dim, 3 * heads * self.head_dim, bias=False)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        whole = Axis("heads", repeats=3, block=self.head_dim)
        return super().axes() | {"whole.weight": (whole, Axis("residual"))}

    def fold_scale_before(self, scale: Tensor, shift: Tensor | None) -> bool:
        if not scalable(self.whole, self.inputs):
            return False
        scale_input(self.whole, scale, shift)
        return super().fold_scale_before(scale, shift)

    def project(self, x: Tensor) -> tuple[Heads, ...]:
        whole = split_axis(dense(self.whole, x), 2, 3, self.heads, self.head_dim).unbind(2)
        return (*super().project(x), *map(self.tap, _WHOLE, whole))

    def attend(self, heads: tuple[Heads, ...], mask: Mask | None, prefix: int) -> Heads:
        q, k, v, *whole = heads
        leading = min(prefix + self.global_tokens, q.shape[1])
        return global_window_attention(
            (q, k, v), (whole[0], whole[1], whole[2]), window=self.window, leading=leading, mask=mask
        )
