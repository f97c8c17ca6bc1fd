"""The attention of Transformer-XL: causal, by content and by distance, with a memory of the tokens before."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.nn.context import EMPTY, Context
from formwright.nn.functional import cache
from formwright.nn.functional.attention import SOFTMAX_TAPS, attend
from formwright.nn.functional.dense import outputs_of
from formwright.nn.parts import PARTS, RESIDUAL, Axis, Part, Promises, State
from formwright.nn.token_mixers.attention import check_heads


def distance_table(distances: int, dim: int, like: Tensor) -> Float[Tensor, "distances dim"]:
    """``sin(s w_i)``, then ``cos(s w_i)``, of distances ``s`` with ``w_i = 10000^(-2 i / dim)``, ``i < dim / 2``."""
    frequency = 10000 ** (-torch.arange(0, dim, 2, dtype=torch.float64, device=like.device) / dim)
    angle = torch.arange(distances, dtype=torch.float64, device=like.device)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=-1).to(like.dtype)


@PARTS.register("relative_attention")
class RelativeAttention(Part):
    """``softmax(((q_i + u) k_j + (q_i + v) W R_{i-j}) / sqrt(head_dim))`` over tokens ``j <= i``, times the values.

    ``R`` are sines and cosines of the distance, ``u`` and ``v`` learned vectors of each head. When it streams, the
    state holds the inputs of the latest tokens, through which no gradient flows: the memory of a segment of training.

    Args:
        dim: channels in and out.
        heads: number of heads; must divide ``dim`` unless ``head_dim`` is given.
        head_dim: channels of a head.
        window: a token sees this many latest tokens, itself included; all before if unset.

    Shapes: ``(batch, time, dim)`` to the same; ``context.mask`` ``(batch, time)``. State: ``memory``
    ``(batch, window - 1, dim)``.

    Raises:
        UserError: ``dim`` cannot be split over the heads, or is odd, or the window sees nothing.

    Source: Transformer-XL, arXiv 1901.02860. With a window it is what the authors' code calls ``same_length``; there,
    by default, the last tokens of a segment see more than the first, so that results depend on the division.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"mask", "segments"})
    promises: ClassVar[Promises] = Promises(dimensions=(1,), causal=True)
    taps: ClassVar[tuple[str, ...]] = ("queries", "keys", "values", *SOFTMAX_TAPS, "mixed")

    def __init__(self, dim: int, *, heads: int = 8, head_dim: int | None = None, window: int | None = None) -> None:
        super().__init__()
        if head_dim is None:
            check_heads(dim, heads)
            head_dim = dim // heads
        if dim % 2:
            raise UserError(f"Sines and cosines of distances need an even number of channels, not {dim}.")
        if window is not None and window < 1:
            raise UserError(f"A window of {window} tokens sees nothing; choose one of at least 1.")
        self.heads, self.head_dim, self.window = heads, head_dim, window
        self.qkv = nn.Linear(dim, 3 * heads * head_dim, bias=False)
        self.distance = nn.Linear(dim, heads * head_dim, bias=False)
        self.content_bias = nn.Parameter(torch.zeros(heads, head_dim))
        self.distance_bias = nn.Parameter(torch.zeros(heads, head_dim))
        self.proj = nn.Linear(heads * head_dim, dim, bias=False)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return {"qkv.weight": (None, RESIDUAL), "proj.weight": (RESIDUAL, None)}

    def forward(
        self, x: Float[Tensor, "batch time channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch time channels"]:
        if context.segments is None:
            return self._alone(x, context.mask)
        sequences, mask = context.sequences, context.mask
        return sequences.apply(lambda rows, mask: self._alone(rows[0], mask), (x,), mask, causal=True)

    def _alone(self, x: Tensor, mask: Bool[Tensor, "batch time"] | None) -> Tensor:
        places = torch.arange(x.shape[1], device=x.device)[None]
        return self._attend(x, x, places, places, None if mask is None else mask[:, None])

    def init_state(
        self, batch: int, capacity: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        slots = capacity if self.window is None else min(capacity, self.window - 1)
        return {"memory": torch.zeros(batch, slots, self.proj.out_features, device=device, dtype=dtype)}

    def stream(self, x: Tensor, state: State, context: Context = EMPTY) -> tuple[Tensor, State]:
        memory, length = state["memory"], state["length"]
        slots = memory.shape[1]
        if self.window is None or slots < self.window - 1:
            count = x.shape[1] if context.mask is None else context.mask.sum(1)
            cache.check_capacity(cache.longest(length, count), slots)
        places = length[:, None] + torch.arange(x.shape[1], device=x.device)
        if slots == 0:
            return self._attend(x, x, places, places), state
        y = self._attend(
            x, torch.cat([memory, x], dim=1), places, torch.cat([cache.key_places(length, slots), places], dim=1)
        )
        after = {"memory": memory.clone()}  # not in place: training goes back through the old one
        cache.write(after, {"memory": x.detach()}, length, context.mask)
        return y, after

    def remembers(self, state: State, length: Int[Tensor, " batch"]) -> bool:
        return cache.remembers(state["length"], length, state["memory"].shape[1])

    def _attend(
        self,
        x: Tensor,
        seen: Tensor,
        places: Int[Tensor, "rows time"],
        key_places: Int[Tensor, "rows keys"],
        real: Tensor | None = None,
    ) -> Tensor:
        """Results for ``x`` at ``places``, which sees ``seen`` at ``key_places`` (negative: nothing is there)."""
        width = self.heads * self.head_dim
        q = self._heads(outputs_of(self.qkv, x, slice(width)))
        k, v = (self._heads(y) for y in outputs_of(self.qkv, seen, slice(width, None)).chunk(2, dim=-1))
        q, k, v = self.tap("queries", q), self.tap("keys", k), self.tap("values", v)
        difference = places[:, :, None] - key_places[:, None]
        allowed = (difference >= 0) & (key_places[:, None] >= 0)
        if self.window is not None:
            allowed &= difference < self.window
        if real is not None:
            allowed = allowed & real
        distances = self._distances(seen.shape[1])
        r = self._heads(self.distance(distance_table(distances, self.distance.in_features, x)))
        by_distance = torch.einsum("bthd,shd->bhts", q + self.distance_bias, r) / math.sqrt(self.head_dim)
        index = difference.clamp(0, distances - 1)[:, None].expand(x.shape[0], self.heads, -1, -1)
        bias = by_distance.gather(-1, index).masked_fill(~allowed[:, None], -torch.inf)
        q, k, v = (x.transpose(1, 2) for x in (q + self.content_bias, k, v))
        y = self.tap("mixed", attend(q, k, v, bias, tap=self.listened(*SOFTMAX_TAPS)))
        return self.proj(y.transpose(1, 2).flatten(2))

    def _heads(self, y: Tensor) -> Tensor:
        return y.view(*y.shape[:-1], self.heads, self.head_dim)

    def _distances(self, keys: int) -> int:
        """How many distances can be seen: among as many latest tokens as there are keys, and in the window."""
        return keys if self.window is None else min(keys, self.window)
