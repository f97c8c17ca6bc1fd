"""Attention to a few learned mixtures of all keys."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import nn

from formwright.errors import UserError
from formwright.nn.functional.attention import SOFTMAX_TAPS, attend
from formwright.nn.functional.blocks import real_tokens
from formwright.nn.parts import PARTS, Promises
from formwright.nn.token_mixers.multi_head import Heads, Mask, MultiHeadMixer, check_positive, refuse_causal


def check_length(length: int, most: int, what: str) -> None:
    """Refuse sequences longer than a table.

    Raises:
        UserError: names both lengths.
    """
    if length > most:
        raise UserError(
            f"{what} was made for at most {most} tokens, and {length} came; cut the sequence, or build the model for "
            "longer ones (length=...)."
        )


def places_of(grid: tuple[int, ...] | None, length: int | None, what: str) -> int:
    """The longest sequence of a table: ``length``, or that of the grid that the part is built for."""
    if length is None and grid is None:
        raise UserError(f"{what} has a table of the length of the sequence; give length=... .")
    found = math.prod(grid or ()) if length is None else length
    check_positive(length=found)
    return found


@PARTS.register("linformer_attention")
class LinformerAttention(MultiHeadMixer):
    """``softmax(q (Eᵀ k)ᵀ / sqrt(head_dim)) Eᵀ v`` with a learned ``E`` of ``length`` rows and ``rank`` columns.

    ``E`` is shared by keys, values and heads. Cost is linear in the number of tokens.

    Args:
        dim: channels in and out.
        heads: number of heads; must divide ``dim`` unless ``head_dim`` is given.
        head_dim: channels of a head; ``dim / heads`` if unset.
        rank: how many mixtures of tokens there are.
        length: the longest sequence, class tokens included; that of the grid if unset.
        causal: refused: every mixture holds all tokens.

    Shapes: ``(batch, time, dim)`` to the same, ``time`` up to ``length``; ``context.mask`` ``(batch, time)`` true for
    real tokens (the Long Range Arena's code mixes padding in).

    Raises:
        UserError: ``dim`` cannot be split over the heads, the sequence is too long, or it is asked to be causal.

    Source: Linformer: Self-Attention with Linear Complexity, arXiv 2006.04768.
    """

    promises = Promises(dimensions=(1,), any_grid=False)
    taps: ClassVar[tuple[str, ...]] = ("queries", "keys", "values", *SOFTMAX_TAPS, "mixed")

    def __init__(
        self,
        dim: int,
        *,
        heads: int = 4,
        head_dim: int | None = None,
        rank: int = 32,
        length: int | None = None,
        grid: tuple[int, ...] | None = None,
        causal: bool = False,
    ) -> None:
        check_positive(rank=rank)
        refuse_causal("Linformer", "each of its mixtures of keys holds all tokens", causal)
        super().__init__(dim, heads, head_dim)
        length = places_of(grid, length, "Linformer")
        self.mixtures = nn.Parameter(torch.randn(length, rank) / math.sqrt(length))

    def attend(self, heads: tuple[Heads, ...], mask: Mask | None, prefix: int) -> Heads:
        q, k, v = heads
        check_length(q.shape[1], len(self.mixtures), "Linformer")
        mixtures = self.mixtures[: q.shape[1]] * real_tokens(mask, q)[..., None]
        keys, values = (torch.einsum("btr,bthc->bhrc", mixtures.expand(q.shape[0], -1, -1), x) for x in (k, v))
        return attend(q.transpose(1, 2), keys, values, tap=self.listened(*SOFTMAX_TAPS)).transpose(1, 2)
