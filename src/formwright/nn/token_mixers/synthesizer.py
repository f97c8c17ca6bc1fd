"""Attention whose weights come from no comparison of tokens: learned by place, or made by each token alone."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.nn.context import EMPTY, Context
from formwright.nn.functional import cache
from formwright.nn.functional.attention import SOFTMAX_TAPS, attend
from formwright.nn.functional.blocks import real_tokens
from formwright.nn.functional.dense import known
from formwright.nn.parts import PARTS, Axis, Promises, State
from formwright.nn.token_mixers.linformer_attention import check_length, places_of
from formwright.nn.token_mixers.multi_head import Heads, Mask, MultiHeadMixer, check_positive


class _Synthesizer(MultiHeadMixer):
    """``y = softmax(logits) v`` with ``logits = a bᵀ + c``; a subclass makes the factors or the table ``c``.

    The product is computed as attention is, so that the logits of all pairs are not kept. Causal, it streams with a
    cache of values.
    """

    projected: ClassVar[tuple[str, ...]] = ("values",)
    taps: ClassVar[tuple[str, ...]] = (*projected, *SOFTMAX_TAPS, "mixed")
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

    @abstractmethod
    def logits(self, heads: tuple[Heads, ...], places: Tensor, keys: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """``a``, ``b`` and ``c`` for tokens at ``places`` ``(batch or 1, time)``, who may see ``keys`` places.

        Shapes ``(batch or 1, heads, time or keys, channels)`` of ``a`` and ``b``; none instead of a ``c`` of zeros.
        """

    def attend(self, heads: tuple[Heads, ...], mask: Mask | None, prefix: int) -> Heads:
        v = heads[0]
        time = v.shape[1]
        check_length(time, self.length, "The table of a Synthesizer")
        places = torch.arange(time, device=v.device)[None]
        seen = real_tokens(mask, v)[:, None]
        if self.causal:
            seen = seen & (places <= places.T)
        return self._mix(self.logits(heads, places, time), seen, v)

    def _mix(self, logits: tuple[Tensor, Tensor, Tensor | None], seen: Tensor, v: Tensor) -> Heads:
        a, b, c = logits
        mask = seen[:, None] if c is None else c.masked_fill(~seen[:, None], -torch.inf)
        width = max(a.shape[-1], self.head_dim)  # the fast kernels want one width for all three
        a, b = (F.pad(x, (0, width - x.shape[-1])).expand(v.shape[0], -1, -1, -1) for x in (a, b))
        values = F.pad(v, (0, width - self.head_dim)).transpose(1, 2)
        y = attend(a, b, values, mask, scale=1.0, tap=self.listened(*SOFTMAX_TAPS))
        return y[..., : self.head_dim].transpose(1, 2)

    def init_state(
        self, batch: int, capacity: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        if not self.causal:
            return super().init_state(batch, capacity, device=device, dtype=dtype)
        check_length(capacity, self.length, "The table of a Synthesizer")
        return {"values": torch.zeros(batch, capacity, self.heads, self.head_dim, device=device, dtype=dtype)}

    def stream(self, x: Tensor, state: State, context: Context = EMPTY) -> tuple[Tensor, State]:
        values, length = state["values"], state["length"]
        heads = self.project(x)
        time, slots = x.shape[1], values.shape[1]
        count = time if context.mask is None else context.mask.sum(1)
        cache.check_capacity(cache.longest(length, count), slots)
        cache.write({"values": values}, {"values": heads[0]}, length, context.mask)
        places = (length[:, None] + torch.arange(time, device=x.device)).clamp(max=self.length - 1)
        seen = torch.arange(slots, device=x.device) <= places[..., None]
        return self.collect(self._mix(self.logits(heads, places, slots), seen, values.to(x.dtype))), {"values": values}

    def remembers(self, state: State, length: Int[Tensor, " batch"]) -> bool:
        return True  # every value has a slot of its own


def _table(c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The logits ``c`` alone, without factors."""
    nothing = c.new_zeros(1, c.shape[1], 1, 1)
    return nothing.expand(-1, -1, c.shape[2], -1), nothing.expand(-1, -1, c.shape[3], -1), c


@PARTS.register("random_synthesizer")
class RandomSynthesizer(_Synthesizer):
    """``y = softmax(A) v`` with learned logits ``A = L Rᵀ`` for each head, the same for every sequence.

    Args:
        dim: channels in and out.
        heads: number of heads; must divide ``dim`` unless ``head_dim`` is given.
        head_dim: channels of a head; ``dim / heads`` if unset.
        rank: columns of ``L`` and ``R``; with none, ``A`` itself is learned.
        length: the longest sequence, class tokens included; that of the grid if unset.
        causal: whether tokens see only those before them.

    Shapes: ``(batch, time, dim)`` to the same, ``time`` up to ``length``; ``context.mask`` ``(batch, time)`` true for
    real tokens.

    Raises:
        UserError: ``dim`` cannot be split over the heads, or the sequence is too long.

    Source: Synthesizer: Rethinking Self-Attention in Transformer Models, arXiv 2005.00743 (random and factorised
    random).
    """

    no_decay: ClassVar[tuple[str, ...]] = ("table",)

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
            self.right = nn.Parameter(torch.randn(heads, self.length, rank) / rank**0.25)
        self.rank = rank

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        names = ("table",) if self.rank is None else ("left", "right")
        return super().axes() | {name: (Axis("heads"), None, None) for name in names}

    def logits(self, heads: tuple[Heads, ...], places: Tensor, keys: int) -> tuple[Tensor, Tensor, Tensor | None]:
        if self.rank is None:
            return _table(self.table[:, places, :keys].transpose(0, 1))
        return self.left[:, places].transpose(0, 1), self.right[None, :, :keys], None


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

    projected: ClassVar[tuple[str, ...]] = ("values", "features")
    taps: ClassVar[tuple[str, ...]] = (*projected, *SOFTMAX_TAPS, "mixed")

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

    def logits(self, heads: tuple[Heads, ...], places: Tensor, keys: int) -> tuple[Tensor, Tensor, Tensor | None]:
        hidden = heads[1].relu().transpose(1, 2)
        if not known(self.scores) or self.scores.bias is not None:
            return _table(self.scores(hidden)[..., :keys])
        return hidden, self.scores.weight[:keys].expand(1, self.heads, -1, -1), None
