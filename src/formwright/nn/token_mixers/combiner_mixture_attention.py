"""Combiner's axial mixture: a row, a column, and spans of what lies beside both."""

from __future__ import annotations

import math

import torch
from jaxtyping import Int
from torch import Tensor

from formwright.nn.context import EMPTY, Context
from formwright.nn.functional import cache
from formwright.nn.functional.alignment import Alignment, same_block
from formwright.nn.functional.combiner_mixture import (
    MixturePast,
    MixtureRows,
    combiner_mixture_attention,
    mixture_rows,
)
from formwright.nn.parts import PARTS, Promises, State
from formwright.nn.token_mixers.multi_head import Heads, Mask, MultiHeadMixer, check_positive

_BEGUN = ("begun_queries", "begun_keys", "begun_values")


@PARTS.register("combiner_mixture_attention")
class CombinerMixtureAttention(MultiHeadMixer):
    """Causal multi-head attention to the own row and column, and to spans of all other columns and earlier rows.

    See :mod:`formwright.nn.functional.combiner_mixture`.

    Args:
        dim: channels in and out.
        heads: number of heads; must divide ``dim``.
        columns: tokens of a row; the last one may be shorter.

    Shapes: ``(batch, time, dim)`` to the same; ``context.mask`` ``(batch, time)`` true for real tokens. State: the row
    that is begun, the largest queries of each column, and of finished rows the keys and values of all tokens and of the
    spans to both sides of them; every step makes the spans of columns anew.

    Raises:
        UserError: ``dim`` cannot be split over the heads, or a row has no token.

    Source: Combiner, arXiv 2107.05768 ("axial mixture").
    """

    promises = Promises(dimensions=(1,), causal=True)

    def __init__(self, dim: int, *, heads: int = 4, columns: int = 32) -> None:
        check_positive(columns=columns)
        super().__init__(dim, heads)
        self.columns = columns

    def attend(self, heads: tuple[Heads, ...], mask: Mask | None, prefix: int) -> Heads:
        q, k, v = heads
        return combiner_mixture_attention(q, k, v, columns=self.columns, mask=mask)

    def init_state(
        self, batch: int, capacity: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        row: tuple[int, ...] = (self.columns, self.heads, self.head_dim)
        shapes = dict.fromkeys((*_BEGUN, "largest_queries"), row)
        shapes |= dict.fromkeys(MixtureRows._fields, (math.ceil(capacity / self.columns), *row))
        return {name: torch.zeros(batch, *shape, device=device, dtype=dtype) for name, shape in shapes.items()}

    def stream(self, x: Tensor, state: State, context: Context = EMPTY) -> tuple[Tensor, State]:
        kept = MixtureRows(*(state[name] for name in MixtureRows._fields))
        slots = kept.keys.shape[1]
        at = Alignment(state["length"], x.shape[1], self.columns, context.mask)
        cache.check_capacity(cache.longest(state["length"] - at.offset, at.filled), slots * self.columns)
        finished = torch.arange(slots, device=x.device) < at.first[:, None]
        q, k, v = (at.blocks_of(state[name], new) for name, new in zip(_BEGUN, self.project(x), strict=True))
        y, new, largest = mixture_rows(q, k, v, at.real, MixturePast(kept, finished, state["largest_queries"]))
        for stored, rows in zip(kept, new, strict=True):
            at.keep_finished(stored, rows)
        begun = {name: at.begun_of(blocks) for name, blocks in zip(_BEGUN, (q, k, v), strict=True)}
        largest = largest[torch.arange(x.shape[0], device=x.device), at.filled // self.columns]
        return self.collect(at.new_of(y).to(x.dtype)), {**state, **begun, "largest_queries": largest}

    def remembers(self, state: State, length: Int[Tensor, " batch"]) -> bool:
        return same_block(state["length"], length, self.columns)
