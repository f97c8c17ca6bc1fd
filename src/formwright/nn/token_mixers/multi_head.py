"""What attentions of every kind share: projections of the tokens to heads and back, and a cache to stream from."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.nn.context import EMPTY, Context
from formwright.nn.functional import cache
from formwright.nn.functional.attention import SOFTMAX_TAPS, softmax_attention
from formwright.nn.functional.blocks import split_axis
from formwright.nn.functional.dense import dense
from formwright.nn.layers import scale_input, scale_output
from formwright.nn.parts import Axis, Part, Promises, State
from formwright.nn.token_mixers.attention import check_heads

Heads = Float[Tensor, "batch time heads channels"]
Mask = Bool[Tensor, "batch time"]

#: Tokens of a stream that are compared with the cache at once.
_PIECE = 256


def check_positive(**options: int) -> None:
    """Refuse sizes that are not at least one.

    Raises:
        UserError: names the option and its value.
    """
    for name, value in options.items():
        if value < 1:
            raise UserError(f"{name}={value} leaves nothing to attend to; choose {name} of at least 1.")


class MultiHeadMixer(Part):
    """``y = attend(heads of x W) W_o``; a subclass says how the heads attend.

    Tokens lie on one axis, a class token in front included; a grid of several axes counts row by row. The sequences of
    a packed row attend one by one.

    Args:
        dim: channels in and out.
        heads: number of heads; must divide ``dim`` unless ``head_dim`` is given.
        head_dim: channels of a head; ``dim / heads`` if unset.

    Class attributes:
        projected: what :meth:`attend` is given, each ``(batch, time, heads, head_dim)``.
    """

    projected: ClassVar[tuple[str, ...]] = ("queries", "keys", "values")
    taps: ClassVar[tuple[str, ...]] = (*projected, "mixed")
    uses: ClassVar[frozenset[str]] = frozenset({"mask", "prefix", "grid", "segments"})
    promises: ClassVar[Promises] = Promises(dimensions=(1,))
    resizable: ClassVar[Mapping[str, str]] = {"heads": "heads"}

    def __init__(self, dim: int, heads: int, head_dim: int | None = None) -> None:
        super().__init__()
        if head_dim is None:
            check_heads(dim, heads)
            head_dim = dim // heads
        check_positive(heads=heads, head_dim=head_dim)
        self.heads, self.head_dim = heads, head_dim
        self.inputs = nn.Linear(dim, len(self.projected) * heads * head_dim, bias=False)
        self.output = nn.Linear(heads * head_dim, dim, bias=False)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        heads, residual = Axis("heads", repeats=len(self.projected), block=self.head_dim), Axis("residual")
        return {
            "inputs.weight": (heads, residual),
            "output.weight": (residual, Axis("heads", block=self.head_dim)),
        }

    def fold_scale_before(self, scale: Tensor, shift: Tensor | None) -> bool:
        return scale_input(self.inputs, scale, shift)

    def fold_scale_after(self, scale: Tensor) -> bool:
        return scale_output(self.output, scale)

    def project(self, x: Float[Tensor, "batch time dim"]) -> tuple[Heads, ...]:
        heads = split_axis(dense(self.inputs, x), 2, len(self.projected), self.heads, self.head_dim).unbind(2)
        return heads if self.listeners is None else tuple(map(self.tap, self.projected, heads))

    def collect(self, y: Heads) -> Float[Tensor, "batch time dim"]:
        return dense(self.output, self.tap("mixed", y).flatten(2))

    @abstractmethod
    def attend(self, heads: tuple[Heads, ...], mask: Mask | None, prefix: int) -> Heads:
        """What every token gets, ``prefix`` tokens in front being class tokens."""

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"]:
        if 0 in x.shape[1:-1]:
            return x
        mask = None if context.mask is None else context.mask.flatten(1)
        heads = self.project(x.flatten(1, -2))
        if context.segments is None:
            y = self.attend(heads, mask, context.prefix)
        else:
            causal = self.promises.causal
            y = context.sequences.apply(lambda rows, mask: self.attend(rows, mask, 0), heads, mask, causal=causal)
        return self.collect(y).view(x.shape)


def refuse_causal(part: str, reason: str, causal: bool) -> None:
    """Say why a mechanism cannot be causal, to whoever asks it to be."""
    if causal:
        raise UserError(
            f"{part} cannot be causal: {reason}; choose a mixer that can, such as local_attention, strided_attention, "
            "performer_attention or attention."
        )


class CachedMixer(MultiHeadMixer):
    """A mixer whose queries see earlier keys by their places alone: it streams from a cache of keys and values."""

    causal: bool

    def cache_slots(self, capacity: int) -> int:
        """How many of the latest keys a query may see."""
        return capacity

    def sees(self, queries: Int[Tensor, "batch time 1"], keys: Int[Tensor, "batch 1 keys"]) -> Tensor:
        """Whether a query at a place sees a key at an earlier one."""
        return torch.ones_like(queries <= keys)

    def init_state(
        self, batch: int, capacity: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        if not self.causal:
            return super().init_state(batch, capacity, device=device, dtype=dtype)
        shape = (batch, self.cache_slots(capacity), self.heads, self.head_dim)
        return {name: torch.zeros(shape, device=device, dtype=dtype) for name in ("keys", "values")}

    def stream(
        self, x: Float[Tensor, "batch time channels"], state: State, context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch time channels"], State]:
        ring = {name: state[name] for name in ("keys", "values")}
        if x.shape[1] == 0:
            return x, ring
        length, slots = state["length"], ring["keys"].shape[1]
        pieces = []
        for start in range(0, x.shape[1], _PIECE):
            q, k, v = self.project(x[:, start : start + _PIECE])
            mask = None if context.mask is None else context.mask[:, start : start + _PIECE]
            count = q.shape[1] if mask is None else mask.sum(1)
            if self.cache_slots(slots + 1) > slots:  # it forgets nothing
                cache.check_capacity(cache.longest(length, count), slots)
            places = length[:, None] + torch.arange(q.shape[1], device=x.device)
            keys, values = (
                torch.cat([ring[name], new.to(ring[name].dtype)], dim=1) for name, new in (("keys", k), ("values", v))
            )
            key_places = torch.cat([cache.key_places(length, slots), places], dim=1)[:, None]
            allowed = (key_places >= 0) & (key_places <= places[..., None]) & self.sees(places[..., None], key_places)
            tap = self.listened(*SOFTMAX_TAPS)
            pieces.append(softmax_attention(q, keys.to(q.dtype), values.to(q.dtype), allowed=allowed[:, None], tap=tap))
            cache.write(ring, {"keys": k, "values": v}, length, mask)
            length = length + count
        return self.collect(torch.cat(pieces, dim=1)), ring

    def remembers(self, state: State, length: Int[Tensor, " batch"]) -> bool:
        return cache.remembers(state["length"], length, state["keys"].shape[1])
