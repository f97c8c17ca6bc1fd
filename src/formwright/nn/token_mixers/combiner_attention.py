"""Three of Combiner's four ways to see far tokens as spans and near ones one by one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Int
from torch import Tensor, nn

from formwright.nn.context import EMPTY, Context
from formwright.nn.functional import cache
from formwright.nn.functional.alignment import Alignment, same_block
from formwright.nn.functional.blocks import join_blocks, real_tokens, split_axis, split_blocks
from formwright.nn.functional.combiner import (
    Spans,
    axial_rows,
    combiner_axial_attention,
    combiner_fixed_attention,
    combiner_logsparse_attention,
    fixed_segments,
    logsparse_rows,
)
from formwright.nn.functional.dense import dense
from formwright.nn.norms import LayerNorm
from formwright.nn.parts import PARTS, Axis, InnerAxes, Promises, State, sharing
from formwright.nn.token_mixers.multi_head import Heads, Mask, MultiHeadMixer, check_positive

_CAUSAL = Promises(dimensions=(1,), causal=True)


@PARTS.register("combiner_fixed_attention")
class CombinerFixedAttention(MultiHeadMixer):
    """Multi-head attention to the tokens of the own segment and to a span of every other, in one softmax.

    See :func:`~formwright.nn.functional.combiner.combiner_fixed_attention`.

    Args:
        dim: channels in and out.
        heads: number of heads; must divide ``dim``.
        segment: tokens of a segment; the last one may be shorter.
        causal: whether tokens see only those before them; it then streams.

    Shapes: ``(batch, time, dim)`` to the same; ``context.mask`` ``(batch, time)`` true for real tokens. State: the
    segment that is begun and a span for each that is finished.

    Raises:
        UserError: ``dim`` cannot be split over the heads, or a segment has no token.

    Source: Combiner, arXiv 2107.05768 ("fixed").
    """

    def __init__(self, dim: int, *, heads: int = 4, segment: int = 32, causal: bool = False) -> None:
        check_positive(segment=segment)
        super().__init__(dim, heads)
        self.segment, self.causal = segment, causal
        self.promise(causal=causal)

    def attend(self, heads: tuple[Heads, ...], mask: Mask | None, prefix: int) -> Heads:
        q, k, v = heads
        return combiner_fixed_attention(q, k, v, segment=self.segment, causal=self.causal, mask=mask)

    def init_state(
        self, batch: int, capacity: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        if not self.causal:
            return super().init_state(batch, capacity, device=device, dtype=dtype)
        slots = math.ceil(capacity / self.segment)
        sizes = dict.fromkeys(("queries", "keys", "values"), self.segment)
        sizes |= dict.fromkeys(("span_keys", "span_values"), slots)
        shape = (self.heads, self.head_dim)
        return {name: torch.zeros(batch, size, *shape, device=device, dtype=dtype) for name, size in sizes.items()}

    def stream(self, x: Tensor, state: State, context: Context = EMPTY) -> tuple[Tensor, State]:
        names = ("queries", "keys", "values")
        slots = state["span_keys"].shape[1]
        at = Alignment(state["length"], x.shape[1], self.segment, context.mask)
        cache.check_capacity(cache.longest(state["length"] - at.offset, at.filled), slots * self.segment)
        q, k, v = (at.blocks_of(state[name], new) for name, new in zip(names, self.project(x), strict=True))
        earlier = torch.arange(slots, device=x.device) < at.first[:, None]
        past = Spans(state["span_keys"], state["span_values"], earlier)
        y, spans = fixed_segments(q, k, v, at.real, causal=True, past=past)
        at.keep_finished(state["span_keys"], spans.keys)
        at.keep_finished(state["span_values"], spans.values)
        begun = {name: at.begun_of(blocks) for name, blocks in zip(names, (q, k, v), strict=True)}
        return self.collect(at.new_of(y).to(x.dtype)), {**state, **begun}

    def remembers(self, state: State, length: Int[Tensor, " batch"]) -> bool:
        return same_block(state["length"], length, self.segment)


@PARTS.register("combiner_logsparse_attention")
class CombinerLogsparseAttention(MultiHeadMixer):
    """Causal multi-head attention to the own token and to spans of 1, 2, 4, ... tokens that tile all earlier ones.

    See :func:`~formwright.nn.functional.combiner.combiner_logsparse_attention`.

    Args:
        dim: channels in and out.
        heads: number of heads; must divide ``dim``.

    Shapes: ``(batch, time, dim)`` to the same; ``context.mask`` ``(batch, time)`` true for real tokens. State: queries,
    keys and values of all tokens, of which every step makes the spans anew.

    Raises:
        UserError: ``dim`` cannot be split over the heads.

    Source: Combiner, arXiv 2107.05768 ("logsparse"), with the level that the authors' code misses; see
    :func:`~formwright.nn.functional.combiner.levels`.
    """

    promises = _CAUSAL

    def __init__(self, dim: int, *, heads: int = 4) -> None:
        super().__init__(dim, heads)

    def attend(self, heads: tuple[Heads, ...], mask: Mask | None, prefix: int) -> Heads:
        q, k, v = heads
        return combiner_logsparse_attention(q, k, v, mask=mask)

    def init_state(
        self, batch: int, capacity: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        shape = (batch, capacity, self.heads, self.head_dim)
        return {name: torch.zeros(shape, device=device, dtype=dtype) for name in ("queries", "keys", "values")}

    def stream(self, x: Tensor, state: State, context: Context = EMPTY) -> tuple[Tensor, State]:
        names = ("queries", "keys", "values")
        past = {name: state[name] for name in names}
        length, slots = state["length"], past["keys"].shape[1]
        new = dict(zip(names, self.project(x), strict=True))
        count = x.shape[1] if context.mask is None else context.mask.sum(1)
        cache.check_capacity(cache.longest(length, count), slots)
        cache.write(past, new, length, context.mask)
        places = length[:, None] + torch.arange(x.shape[1], device=x.device)
        real = torch.arange(slots, device=x.device) < (length + count)[:, None]
        y = logsparse_rows(
            new["queries"], places.clamp(max=slots - 1), past["queries"], past["keys"], past["values"], real
        )
        return self.collect(y.to(x.dtype)), past

    def remembers(self, state: State, length: Int[Tensor, " batch"]) -> bool:
        return True  # every token has a slot of its own


@PARTS.register("combiner_axial_attention")
class CombinerAxialAttention(MultiHeadMixer):
    """Causal multi-head attention to earlier tokens of the own row and to the own column of earlier rows.

    What stands for an earlier row at a column has been attended to from all of the row: its value is the row's
    attention ``r`` there, its key is ``norm(x + W r) W_k``. See
    :func:`~formwright.nn.functional.combiner.combiner_axial_attention`.

    Args:
        dim: channels in and out.
        heads: number of heads; must divide ``dim``.
        columns: tokens of a row; the last one may be shorter.

    Shapes: ``(batch, time, dim)`` to the same; ``context.mask`` ``(batch, time)`` true for real tokens. State: the row
    that is begun, and keys and values of those that are finished.

    Raises:
        UserError: ``dim`` cannot be split over the heads, or a row has no token.

    Source: Combiner, arXiv 2107.05768 ("axial", row-major).
    """

    promises = _CAUSAL
    resizable: ClassVar[Mapping[str, str]] = {"heads": "heads"}

    def __init__(self, dim: int, *, heads: int = 4, columns: int = 32) -> None:
        check_positive(columns=columns)
        super().__init__(dim, heads)
        self.columns = columns
        self.row_output = nn.Linear(dim, dim, bias=False)
        self.row_norm = LayerNorm(dim, eps=1e-6)
        self.row_key = nn.Linear(dim, dim, bias=False)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        heads, residual = Axis("heads", block=self.head_dim), Axis("residual")
        return super().axes() | {"row_output.weight": (residual, heads), "row_key.weight": (heads, residual)}

    def inner_axes(self) -> InnerAxes:
        return sharing("row_norm")

    def fold_scale_before(self, scale: Tensor, shift: Tensor | None) -> bool:
        return False  # the tokens themselves are added to what stands for a row

    def forward(self, x: Tensor, context: Context = EMPTY) -> Tensor:
        mask = None if context.mask is None else context.mask.flatten(1)
        tokens = x.flatten(1, -2)
        if context.segments is None:
            return self._alone(tokens, mask).view(x.shape)
        y = context.sequences.apply(lambda rows, mask: self._alone(rows[0], mask), (tokens,), mask, causal=True)
        return y.view(x.shape)

    def _alone(self, tokens: Tensor, mask: Mask | None) -> Tensor:
        real = split_blocks(real_tokens(mask, tokens).expand(tokens.shape[0], -1), self.columns)
        q, k, v = (split_blocks(head, self.columns) for head in self.project(tokens))
        keys, values = self._rows(split_blocks(tokens, self.columns), q, k, v, real)
        y = combiner_axial_attention(q, k, v, keys, values, real)
        return self.collect(join_blocks(y, tokens.shape[1]))

    def _rows(self, tokens: Tensor, q: Tensor, k: Tensor, v: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        values = axial_rows(q, k, v, real)
        normed = self.row_norm(tokens + dense(self.row_output, values.flatten(3)))
        return split_axis(dense(self.row_key, normed), 3, self.heads, self.head_dim), values

    def init_state(
        self, batch: int, capacity: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        rows = math.ceil(capacity / self.columns)
        state = {"tokens": torch.zeros(batch, self.columns, self.inputs.in_features, device=device, dtype=dtype)}
        for name in ("row_keys", "row_values"):
            shape = (batch, rows, self.columns, self.heads, self.head_dim)
            state[name] = torch.zeros(shape, device=device, dtype=dtype)
        return state

    def stream(self, x: Tensor, state: State, context: Context = EMPTY) -> tuple[Tensor, State]:
        slots = state["row_keys"].shape[1]
        at = Alignment(state["length"], x.shape[1], self.columns, context.mask)
        cache.check_capacity(cache.longest(state["length"] - at.offset, at.filled), slots * self.columns)
        tokens = at.blocks_of(state["tokens"].to(x.dtype), x)
        q, k, v = (split_axis(head, 1, -1, self.columns) for head in self.project(tokens.flatten(1, 2)))
        keys, values = self._rows(tokens, q, k, v, at.real)
        earlier = torch.arange(slots, device=x.device) < at.first[:, None]
        past = (state["row_keys"].to(x.dtype), state["row_values"].to(x.dtype), earlier)
        y = combiner_axial_attention(q, k, v, keys, values, at.real, past=past)
        at.keep_finished(state["row_keys"], keys)
        at.keep_finished(state["row_values"], values)
        return self.collect(at.new_of(y).to(x.dtype)), {
            **state,
            "tokens": at.begun_of(tokens).to(state["tokens"].dtype),
        }

    def remembers(self, state: State, length: Int[Tensor, " batch"]) -> bool:
        return same_block(state["length"], length, self.columns)
