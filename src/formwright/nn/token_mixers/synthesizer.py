"""Attention whose weights come from no comparison of tokens: learned by place, or made by each token alone."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from formwright.nn.context import EMPTY, Context
from formwright.nn.functional.blocks import real_tokens
from formwright.nn.functional.dense import dense
from formwright.nn.part import PARTS, Axis, Promises, State
from formwright.nn.token_mixers.linformer_attention import check_length, places_of
from formwright.nn.token_mixers.multi_head import Heads, Mask, MultiHeadMixer, check_positive


class _Synthesizer(MultiHeadMixer):
    """``y = softmax(logits) v``; a subclass makes the logits.

    Causal, it streams with a cache of values.
    """

    projected: ClassVar[tuple[str, ...]] = ("values",)
    promises = Promises(dimensions=(1,), any_grid=False)

    def __init__(
        self,
        dim: int,
        heads: int,
        head_dim: int | None,
        length: int | None,
        grid: tuple[int, ...] | None,
        causal: bool,
    ) -> None:
        super().__init__(dim, heads, head_dim)
        self.length = places_of(grid, length, "A Synthesizer")
        self.causal = causal
        self.promise(causal=causal)

    def logits(self, heads: tuple[Heads, ...], places: Tensor, keys: int) -> Tensor:
        """``(batch or 1, heads, time, keys)`` for tokens at ``places`` ``(batch or 1, time)``."""
        raise NotImplementedError

    def attend(self, heads: tuple[Heads, ...], mask: Mask | None, prefix: int) -> Heads:
        v = heads[0]
        time = v.shape[1]
        check_length(time, self.length, "The table of a Synthesizer")
        places = torch.arange(time, device=v.device)[None]
        seen = real_tokens(mask, v)[:, None]
        if self.causal:
            seen = seen & (places <= places.T)
        return self._mix(self.logits(heads, places, time), seen, v)

    def _mix(self, logits: Tensor, seen: Tensor, v: Tensor) -> Heads:
        logits = logits.masked_fill(~seen[:, None], torch.finfo(logits.dtype).min)
        return torch.einsum("bhqk,bkhc->bqhc", logits.softmax(-1).expand(len(v), -1, -1, -1), v)

    def init_state(
        self, batch: int, capacity: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        if not self.causal:
            return super().init_state(batch, capacity, device=device, dtype=dtype)
        check_length(capacity, self.length, "The table of a Synthesizer")
        return {"values": torch.zeros(batch, capacity, self.heads, self.head_dim, device=device, dtype=dtype)}

    def stream(self, x: Tensor, state: State, context: Context = EMPTY) -> tuple[Tensor, State]:
        from formwright.nn.functional import cache

        values, length = state["values"], state["length"]
        heads = self.project(x)
        time, slots = x.shape[1], values.shape[1]
        count = time if context.mask is None else context.mask.sum(1)
        cache.check_capacity(int((length + count).max()), slots)
        cache.write({"values": values}, {"values": heads[0]}, length, context.mask)
        places = (length[:, None] + torch.arange(time, device=x.device)).clamp(max=self.length - 1)
        seen = torch.arange(slots, device=x.device) <= places[..., None]
        return self.collect(self._mix(self.logits(heads, places, slots), seen, values.to(x.dtype))), {"values": values}


@PARTS.register("random_synthesizer")
class RandomSynthesizer(_Synthesizer):
    """``y = softmax(A) v`` with learned logits ``A = L R`` for each head, the same for every sequence.

    Args:
        dim: channels in and out.
        heads: number of heads; must divide ``dim`` unless ``head_dim`` is given.
        head_dim: channels of a head; ``dim / heads`` if unset.
        rank: columns of ``L`` and rows of ``R``; with none, ``A`` itself is learned.
        length: the longest sequence, class tokens included; that of the grid if unset.
        causal: whether tokens see only those before them.

    Shapes: ``(batch, time, dim)`` to the same, ``time`` up to ``length``; ``context.mask`` ``(batch, time)`` true for
    real tokens.

    Raises:
        UserError: ``dim`` cannot be split over the heads, or the sequence is too long.

    Source: Synthesizer: Rethinking Self-Attention in Transformer Models, arXiv 2005.00743 (random and factorised
    random).
    """

    def __init__(
        self,
        dim: int,
        *,
        heads: int = 4,
        head_dim: int | None = None,
        rank: int | None = 32,
        length: int | None = None,
        grid: tuple[int, ...] | None = None,
        causal: bool = False,
    ) -> None:
        super().__init__(dim, heads, head_dim, length, grid, causal)
        if rank is None:
            self.table = nn.Parameter(torch.randn(heads, self.length, self.length) / math.sqrt(self.length))
        else:
            check_positive(rank=rank)
            self.left = nn.Parameter(torch.randn(heads, self.length, rank) / rank**0.25)
            self.right = nn.Parameter(torch.randn(heads, rank, self.length) / rank**0.25)
        self.rank = rank

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        names = ("table",) if self.rank is None else ("left", "right")
        return super().axes() | {name: (Axis("heads"), None, None) for name in names}

    def logits(self, heads: tuple[Heads, ...], places: Tensor, keys: int) -> Tensor:
        if self.rank is None:
            return self.table[:, places, :keys].transpose(0, 1)
        return self.left[:, places].transpose(0, 1) @ self.right[..., :keys]


@PARTS.register("dense_synthesizer")
class DenseSynthesizer(_Synthesizer):
    """``y_t = softmax(W2 relu(W1 x_t)) v``: each token makes the logits of all places from itself alone.

    Args:
        dim: channels in and out.
        heads: number of heads; must divide ``dim`` unless ``head_dim`` is given.
        head_dim: channels of a head; ``dim / heads`` if unset.
        length: the longest sequence, class tokens included; that of the grid if unset.
        causal: whether tokens see only those before them.

    Shapes: ``(batch, time, dim)`` to the same, ``time`` up to ``length``; ``context.mask`` ``(batch, time)`` true for
    real tokens.

    Raises:
        UserError: ``dim`` cannot be split over the heads, or the sequence is too long.

    Source: Synthesizer: Rethinking Self-Attention in Transformer Models, arXiv 2005.00743.
    """

    projected: ClassVar[tuple[str, ...]] = ("values", "hidden")

    def __init__(
        self,
        dim: int,
        *,
        heads: int = 4,
        head_dim: int | None = None,
        length: int | None = None,
        grid: tuple[int, ...] | None = None,
        causal: bool = False,
    ) -> None:
        super().__init__(dim, heads, head_dim, length, grid, causal)
        self.scores = nn.Linear(self.head_dim, self.length, bias=False)

    def logits(self, heads: tuple[Heads, ...], places: Tensor, keys: int) -> Tensor:
        return dense(self.scores, heads[1].relu())[..., :keys].transpose(1, 2)
