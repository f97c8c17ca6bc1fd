"""Softmax attention over all tokens, or over those before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.nn.context import EMPTY, Context
from formwright.nn.functional import cache
from formwright.nn.functional.any_length import any_length
from formwright.nn.functional.attention import SOFTMAX_TAPS, sliding_window_attention, softmax_attention
from formwright.nn.functional.dense import dense
from formwright.nn.functional.rotary import Rotary
from formwright.nn.layers import scale_input, scale_output
from formwright.nn.parts import PARTS, Axis, Part, Promises, State, build_part
from formwright.nn.specification import PartSpec


def check_heads(dim: int, heads: int) -> None:
    if heads < 1 or dim % heads:
        raise UserError(f"{dim} channels cannot be split over {heads} heads; heads must divide the channels.")


def key_mask(mask: Bool[Tensor, "batch *grid"] | None) -> Bool[Tensor, "batch 1 1 tokens"] | None:
    """The mask over keys as scaled-dot-product attention takes it: true where a key may be attended to."""
    return None if mask is None else mask.flatten(1)[:, None, None, :]


@PARTS.register("attention")
class Attention(Part):
    """Multi-head attention: ``softmax(q kᵀ / sqrt(head_dim)) v`` with ``q, k, v = x Wqkv``, then a projection.

    Without further options every token attends to every real token; places do not matter, so any grid (or a class
    token in front) will do. A token that stands for several merged ones counts as often: ``log(token_size)`` is added
    to the scores of its key. With ``causal`` a token attends to itself and those before it, and the part streams with
    a cache of keys and values. The sequences of a packed row (``context.segments``) attend one by one.

    Args:
        dim: channels in and out.
        heads: number of heads; must divide ``dim`` unless ``head_dim`` is given.
        head_dim: channels of a head; ``heads`` defaults to ``dim // head_dim``.
        kv_heads: heads of keys and values, each read by ``heads / kv_heads`` heads of queries; ``heads`` if unset.
        causal: whether tokens see only those before them (row by row on a grid of several axes).
        window: a token sees this many latest tokens, itself included; without ``causal``, tokens on both sides that
            are fewer than so many places away. The cache then has so many slots.
        rotary: options of rotary positions (``base``, ``fraction``, ``scaling``), see
            :class:`~formwright.nn.functional.rotary.Rotary`; none if unset.
        qk_norm: a norm of the queries and keys of each head, before their positions.
        qkv_bias: bias on queries, keys and values.
        bias: bias on the projection.
        dropout: share of output values that are dropped in training.
        attention_dropout: share of attention weights that are dropped in training.

    Shapes: ``(batch, *grid, dim)`` to the same; ``context.mask`` ``(batch, *grid)`` true for real tokens,
    ``context.token_size`` ``(batch, tokens)``. State:
    ``keys`` and ``values`` ``(batch, slots, kv_heads, head_dim)``.

    Raises:
        UserError: ``dim`` cannot be split over the heads, or the heads over those of keys and values.

    Sources: Attention Is All You Need, arXiv 1706.03762; grouped queries, arXiv 2305.13245; the window of Mistral 7B,
    arXiv 2310.06825; norms of queries and keys, arXiv 2302.05442.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"mask", "prefix", "grid", "token_size", "segments"})
    shares_keys: ClassVar[bool] = True
    promises: ClassVar[Promises] = Promises()
    resizable: ClassVar[Mapping[str, str]] = {"heads": "heads"}
    taps: ClassVar[tuple[str, ...]] = ("queries", "keys", "values", *SOFTMAX_TAPS, "mixed")
    input_layers: ClassVar[tuple[str, ...]] = ("qkv",)
    output_layers: ClassVar[tuple[str, ...]] = ("proj",)

    def __init__(
        self,
        dim: int,
        *,
        heads: int | None = None,
        head_dim: int | None = None,
        kv_heads: int | None = None,
        causal: bool = False,
        window: int | None = None,
        rotary: Mapping[str, Any] | None = None,
        qk_norm: PartSpec | None = None,
        qkv_bias: bool = False,
        bias: bool = True,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if heads is None:
            heads = dim // (head_dim or 32)
        if head_dim is None:
            check_heads(dim, heads)
            head_dim = dim // heads
        if heads < 1:
            raise UserError(f"{dim} channels are too few for a head of {head_dim}; choose a smaller head_dim.")
        if kv_heads is not None and (kv_heads < 1 or heads % kv_heads):
            raise UserError(f"{heads} heads cannot share {kv_heads} heads of keys; choose kv_heads that divides heads.")
        if window is not None and window < 1:
            raise UserError(f"A window of {window} tokens sees nothing; choose one of at least 1.")
        self.heads = heads
        self.head_dim = head_dim
        self.group = 1 if kv_heads is None else heads // kv_heads
        self.causal = causal
        self.window = window
        self.attention_dropout = attention_dropout
        self._build_projections(dim, qkv_bias=qkv_bias, bias=bias)
        self.q_norm = None if qk_norm is None else build_part(qk_norm, head_dim)
        self.k_norm = None if qk_norm is None else build_part(qk_norm, head_dim)
        self.rotary = None if rotary is None else Rotary(head_dim, **rotary)
        self.dropout = nn.Dropout(dropout) if dropout else None
        if causal:
            self.promise(causal=True)
        if causal or window is not None or rotary is not None:  # merged tokens have no place
            self.uses = self.uses - {"token_size"}  # type: ignore[misc]
        if self.group > 1:
            self.resizable = {}  # type: ignore[misc]

    def _build_projections(self, dim: int, *, qkv_bias: bool, bias: bool) -> None:
        self.qkv = nn.Linear(dim, (self.heads + 2 * self.kv_heads) * self.head_dim, bias=qkv_bias)
        self.proj = nn.Linear(self.heads * self.head_dim, dim, bias=bias)

    @property
    def kv_heads(self) -> int:
        return self.heads // self.group

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        residual = Axis("residual")
        grouped = self.group > 1  # rows of queries and of keys then have blocks of different sizes
        heads = None if grouped else Axis("heads", repeats=3, block=self.head_dim)
        return {
            "qkv.weight": (heads, residual),
            "proj.weight": (residual, None if grouped else Axis("heads", block=self.head_dim)),
        }

    def fold_scale_before(self, scale: Tensor, shift: Tensor | None) -> bool:
        return scale_input(self.qkv, scale, shift)

    def fold_scale_after(self, scale: Tensor) -> bool:
        return scale_output(self.proj, scale)

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"] | tuple[Float[Tensor, "batch *grid channels"], Context]:
        tokens = x.flatten(1, -2)
        mask = None if context.mask is None else context.mask.flatten(1)
        places = torch.arange(tokens.shape[1], device=x.device)[None]
        q, k, v = self._project(tokens, places)
        operands = (q, k, v) if context.token_size is None else (q, k, v, context.token_size)
        if context.segments is None:
            y = self._alone(operands, mask, context, places)
        else:

            def alone(operands: tuple[Tensor, ...], mask: Tensor | None) -> Tensor:
                return self._alone(operands, mask, context, places[:, : operands[0].shape[1]])

            y = context.sequences.apply(alone, operands, mask, causal=self.causal)
        y = self._output(y).view(x.shape)
        return (y, context.replace(keys=k.mean(2))) if context.keys_wanted else y

    def _alone(self, operands: tuple[Tensor, ...], mask: Tensor | None, context: Context, places: Tensor) -> Tensor:
        """What rows of one sequence each get, from queries, keys, values and, if tokens are merged, their sizes."""
        q, k, v, *sizes = operands
        scores = self._scores(context, places, places)
        if sizes:
            scores["bias"] = sizes[0].log()[:, None, None]
        return self._attend(q, k, v, mask, **scores)

    def init_state(
        self, batch: int, capacity: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        if not self.causal:
            super().init_state(batch, capacity)  # refuses
        slots = capacity if self.window is None else min(capacity, self.window)
        shape = (batch, slots, self.kv_heads, self.head_dim)
        return {name: torch.zeros(shape, device=device, dtype=dtype) for name in ("keys", "values")}

    def stream(
        self, x: Float[Tensor, "batch time channels"], state: State, context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch time channels"], State]:
        length = state["length"]
        ring = {name: state[name] for name in ("keys", "values")}
        time, slots = x.shape[1], ring["keys"].shape[1]
        places = length[:, None] + torch.arange(time, device=x.device)
        q, k, v = self._project(x, places)
        new = {"keys": k, "values": v}
        seen = cache.longest(length)
        forgets = self.window is not None and slots == self.window
        if not forgets and seen is not None:
            most = seen + time if context.mask is None else cache.longest(length, context.mask.sum(1))
            cache.check_capacity(most, slots)
        if seen == 0:
            y = self._attend(q, k, v, context.mask, **self._scores(context, places[:1], places[:1]))
            cache.write(ring, new, length, context.mask)
            return self._output(y), ring
        if forgets and (
            any_length(time) or time > 1
        ):  # what is overwritten now is still seen by the first of the new tokens
            keys, values = (torch.cat([ring[name], new[name].to(ring[name].dtype)], dim=1) for name in ring)
            key_places = torch.cat([cache.key_places(length, slots), places], dim=1)
            cache.write(ring, new, length, context.mask)
        else:
            cache.write(ring, new, length, context.mask)
            used = None if seen is None else min(seen + time, slots)  # all of them, where a program is exported
            keys, values = (tensor[:, :used] for tensor in ring.values())
            key_places = cache.key_places(length + 1, slots) if forgets else torch.arange(slots, device=x.device)[None]
            key_places = key_places[:, :used]
        allowed = (key_places[:, None] <= places[..., None]) & (key_places[:, None] >= 0)
        if self.window is not None:
            allowed &= key_places[:, None] > places[..., None] - self.window
        scores = self._scores(context, places, key_places)
        y = softmax_attention(
            q,
            keys.to(q.dtype),
            values.to(q.dtype),
            allowed=allowed[:, None],
            tap=self.listened(*SOFTMAX_TAPS),
            **scores,
        )
        return self._output(y), ring

    def remembers(self, state: State, length: Int[Tensor, " batch"]) -> bool:
        seen = None if self.window is None else self.window - 1
        return cache.remembers(state["length"], length, state["keys"].shape[1], seen)

    def _project(self, tokens: Tensor, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values ``(batch, time, heads, head_dim)``, normed and turned to their positions."""
        batch, time, _ = tokens.shape
        heads = self._read(tokens).view(batch, time, self.heads + 2 * self.kv_heads, self.head_dim)
        q, k, v = heads.tensor_split((self.heads, self.heads + self.kv_heads), dim=2)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        if self.rotary is not None:
            q, k = self.rotary(places, q, k)
        if self.listeners is None:
            return q, k, v
        return self.tap("queries", q), self.tap("keys", k), self.tap("values", v)

    def _scores(self, context: Context, places: Tensor, key_places: Tensor) -> dict[str, Any]:
        """Options of ``softmax_attention`` for queries and keys at these places, beyond masks."""
        return {}

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, **scores: Any) -> Tensor:
        dropout, tap = self.attention_dropout if self.training else 0.0, self.listened(*SOFTMAX_TAPS)
        if self.window is not None and (any_length(q.shape[1]) or self.window < q.shape[1]):
            return sliding_window_attention(
                q, k, v, self.window, causal=self.causal, mask=mask, dropout=dropout, tap=tap
            )
        allowed = key_mask(mask)
        return softmax_attention(q, k, v, allowed=allowed, causal=self.causal, dropout=dropout, tap=tap, **scores)

    def _read(self, tokens: Tensor) -> Tensor:
        """The channels of all queries, then of all keys, then of all values."""
        return dense(self.qkv, tokens)

    def _write(self, y: Tensor) -> Tensor:
        return dense(self.proj, y)

    def _output(self, y: Tensor) -> Tensor:
        y = self._write(self.tap("mixed", y).flatten(2))
        return y if self.dropout is None else self.dropout(y)
