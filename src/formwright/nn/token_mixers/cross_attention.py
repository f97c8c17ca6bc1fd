"""Attention to a memory: what another network, or another part of it, made of something else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.nn.context import EMPTY, Context
from formwright.nn.functional.attention import SOFTMAX_TAPS, softmax_attention
from formwright.nn.functional.blocks import split_axis
from formwright.nn.functional.dense import dense
from formwright.nn.layers import scale_input, scale_output
from formwright.nn.parts import PARTS, Axis, Part, Promises, State
from formwright.nn.streaming import MEMORY
from formwright.nn.token_mixers.attention import check_heads, key_mask

_STATE = tuple(f"{MEMORY}{name}" for name in ("keys", "values", "mask"))


@PARTS.register("cross_attention")
class CrossAttention(Part):
    """``softmax(scale q kᵀ) v`` with ``q = x Wq`` and ``k, v = memory Wkv``, then a projection.

    Each token attends to all real tokens of ``context.memory`` and to none of its own kind, so that padding, grids and
    prefixes of its own do not concern it. A stream keeps the memory's keys and values in its state.

    Args:
        dim: channels in and out.
        heads: number of heads; must divide ``dim`` unless ``head_dim`` is given.
        head_dim: channels of a head; ``dim / heads`` if unset.
        memory_dim: channels of the memory; ``dim`` if unset.
        scale: factor on the products; ``1 / sqrt(head_dim)`` if unset.
        qkv_bias: bias on queries, keys and values.
        bias: bias on the projection.
        dropout: share of output values that are dropped in training.
        attention_dropout: share of attention weights that are dropped in training.

    Shapes: ``(batch, *grid, dim)`` to the same; ``context.memory`` ``(batch, memory, memory_dim)``,
    ``context.memory_mask`` ``(batch, memory)`` true for real tokens. State: ``memory_keys`` and
    ``memory_values`` ``(batch, memory, heads, head_dim)``, and ``memory_mask`` ``(batch, memory)``.

    Raises:
        UserError: ``dim`` cannot be split over the heads, or there is no memory, or it fits neither tokens nor mask.

    Source: Attention Is All You Need, arXiv 1706.03762.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"memory", "memory_mask"})
    promises: ClassVar[Promises] = Promises(per_token=True, causal=True)
    resizable: ClassVar[Mapping[str, str]] = {"heads": "heads"}
    taps: ClassVar[tuple[str, ...]] = ("queries", "keys", "values", *SOFTMAX_TAPS, "mixed")
    input_layers: ClassVar[tuple[str, ...]] = ("q",)
    output_layers: ClassVar[tuple[str, ...]] = ("proj",)

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        head_dim: int | None = None,
        memory_dim: int | None = None,
        scale: float | None = None,
        qkv_bias: bool = False,
        bias: bool = True,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if head_dim is None:
            check_heads(dim, heads)
            head_dim = dim // heads
        self.heads, self.head_dim, self.scale = heads, head_dim, scale
        self.memory_dim = dim if memory_dim is None else memory_dim
        self.q = nn.Linear(dim, heads * head_dim, bias=qkv_bias)
        self.kv = nn.Linear(self.memory_dim, 2 * heads * head_dim, bias=qkv_bias)
        self.proj = nn.Linear(heads * head_dim, dim, bias=bias)
        self.dropout = nn.Dropout(dropout) if dropout else None
        self.attention_dropout = attention_dropout

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        queries, residual = Axis("heads", block=self.head_dim), Axis("residual")
        keys = Axis("heads", repeats=2, block=self.head_dim)
        return {
            "q.weight": (queries, residual),
            "kv.weight": (keys, Axis("memory")),
            "proj.weight": (residual, queries),
        }

    def fold_scale_before(self, scale: Tensor, shift: Tensor | None) -> bool:
        return scale_input(self.q, scale, shift)

    def fold_scale_after(self, scale: Tensor) -> bool:
        return scale_output(self.proj, scale)

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"]:
        return self._attend(x, *self._remember(x.shape[0], context), context.memory_mask)

    def begin(
        self,
        batch: int,
        capacity: int,
        context: Context,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> State:
        if context.memory is None:
            return self.init_state(batch, capacity)
        keys, values = self._remember(batch, context)
        mask = context.memory_mask
        if mask is None:
            mask = torch.ones_like(keys[..., 0, 0], dtype=torch.bool)
        return dict(zip(_STATE, (keys, values, mask), strict=True))

    def init_state(
        self, batch: int, capacity: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        raise UserError(
            "A stream with cross-attention begins with a memory: an encoder-decoder starts it with its input, "
            "start(input, capacity)."
        )

    def stream(self, x: Tensor, state: State, context: Context = EMPTY) -> tuple[Tensor, State]:
        if context.memory is not None:
            raise UserError("A stream keeps the memory that it began with: give none with the next tokens.")
        return self._attend(x, *(state[name] for name in _STATE)), state

    def remembers(self, state: State, length: Int[Tensor, " batch"]) -> bool:
        return True  # the memory stays

    def _remember(self, batch: int, context: Context) -> tuple[Tensor, Tensor]:
        """Keys and values of the memory, ``(batch, memory, heads, head_dim)``."""
        memory, mask = context.memory, context.memory_mask
        if memory is None:
            raise UserError("cross_attention has no memory to attend to: give one in the context.")
        if memory.ndim != 3 or memory.shape[0] != batch or memory.shape[2] != self.memory_dim:
            raise UserError(
                f"cross_attention of {batch} samples expects a memory ({batch}, memory, {self.memory_dim}), and got "
                f"{tuple(memory.shape)}."
            )
        if mask is not None and mask.shape != memory.shape[:2]:
            raise UserError(
                f"A memory of shape {tuple(memory.shape)} has a mask {tuple(memory.shape[:2])}, and got one of shape "
                f"{tuple(mask.shape)}."
            )
        keys, values = split_axis(dense(self.kv, memory), 2, 2, self.heads, self.head_dim).unbind(2)
        return self.tap("keys", keys), self.tap("values", values)

    def _attend(self, x: Tensor, keys: Tensor, values: Tensor, real: Bool[Tensor, "batch memory"] | None) -> Tensor:
        q = self.tap("queries", split_axis(dense(self.q, x.flatten(1, -2)), 2, self.heads, self.head_dim))
        dropout, tap = self.attention_dropout if self.training else 0.0, self.listened(*SOFTMAX_TAPS)
        keys, values = keys.to(q.dtype), values.to(q.dtype)
        y = softmax_attention(q, keys, values, allowed=key_mask(real), dropout=dropout, tap=tap, scale=self.scale)
        y = dense(self.proj, self.tap("mixed", y).flatten(2)).view(x.shape)
        return y if self.dropout is None else self.dropout(y)
