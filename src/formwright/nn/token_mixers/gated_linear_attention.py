"""Gated linear attention: linear attention that forgets, each key channel at a rate the token sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.errors import UserError
from formwright.nn.context import Context
from formwright.nn.functional.dense import dense
from formwright.nn.functional.gated_linear_attention import gated_linear_attention
from formwright.nn.functional.rms import rms_norm
from formwright.nn.layers import scale_output
from formwright.nn.parts import PARTS, Axis, State
from formwright.nn.token_mixers.attention import check_heads
from formwright.nn.token_mixers.recurrent import RecurrentMixer

#: What the logarithms of the decays are divided by: the average one starts at ``0.5 ** (1 / 16)``, some 0.96 a token.
GATE_NORMALIZER = 16.0


@PARTS.register("gated_linear_attention")
class GatedLinearAttention(RecurrentMixer):
    """``y = Wout (norm(gla(q, k, v, g)) * silu(Wgate x))`` with ``g = logsigmoid(W2 W1 x + b) / 16``.

    ``q``, ``k`` and ``v`` are ``x`` times their matrices, queries scaled by ``key_dim ** -0.5`` of a head; the norm is
    the root mean square over each head. See
    :func:`~formwright.nn.functional.gated_linear_attention.gated_linear_attention` for the recurrence.

    Args:
        dim: channels in and out.
        heads: number of heads; must divide ``dim`` and the channels of all keys.
        expand_keys: channels of all keys over ``dim``.
        rank: channels between the two matrices of the decays.
        norm_eps: added to the mean square.

    Shapes: ``(batch, time, dim)`` to the same. State: ``memory`` ``(batch, heads, key_dim, head_dim)``, the same at
    every length.

    Raises:
        UserError: the heads do not divide the channels, or a size is less than 1.

    Source: Gated Linear Attention Transformers with Hardware-Efficient Training, arXiv 2312.06635, as
    flash-linear-attention builds it.
    """

    taps: ClassVar[tuple[str, ...]] = ("queries", "keys", "values", "log_decays", "mixed")
    resizable: ClassVar[Mapping[str, str]] = {"heads": "heads"}

    def __init__(
        self, dim: int, *, heads: int = 4, expand_keys: float = 0.5, rank: int = 16, norm_eps: float = 1e-5
    ) -> None:
        super().__init__()
        check_heads(dim, heads)
        keys = int(dim * expand_keys)
        if keys < 1 or keys % heads:
            raise UserError(f"{keys} channels of keys cannot be split over {heads} heads; change expand_keys or heads.")
        if rank < 1:
            raise UserError(f"Decays cannot be computed through {rank} channels; choose a rank of at least 1.")
        self.heads, self.key_dim, self.head_dim = heads, keys // heads, dim // heads
        self.norm_eps = norm_eps
        self.qk = nn.Linear(dim, 2 * keys, bias=False)
        self.value_gate = nn.Linear(dim, 2 * dim, bias=False)
        self.decay_down = nn.Linear(dim, rank, bias=False)
        self.decay_up = nn.Linear(rank, keys)
        self.norm_weight = nn.Parameter(torch.ones(self.head_dim))
        self.proj = nn.Linear(dim, dim, bias=False)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        residual, keys = Axis("residual"), Axis("heads", block=self.key_dim)
        return {
            "qk.weight": (Axis("heads", repeats=2, block=self.key_dim), residual),
            "value_gate.weight": (Axis("heads", repeats=2, block=self.head_dim), residual),
            "decay_down.weight": (None, residual),
            "decay_up.weight": (keys, None),
            "proj.weight": (residual, Axis("heads", block=self.head_dim)),
        }

    def fold_scale_after(self, scale: Tensor) -> bool:
        return scale_output(self.proj, scale)

    def state_sizes(self) -> Mapping[str, tuple[int, ...]]:
        return {"memory": (self.heads, self.key_dim, self.head_dim)}

    def mix(self, x: Tensor, state: State, context: Context) -> tuple[Tensor, State]:
        batch, time, _ = x.shape
        q, k = dense(self.qk, x).view(batch, time, 2, self.heads, self.key_dim).unbind(2)
        v, gate = dense(self.value_gate, x).view(batch, time, 2, self.heads, self.head_dim).unbind(2)
        log_decay = F.logsigmoid(self.decay_up(self.decay_down(x))) / GATE_NORMALIZER
        log_decay = log_decay.view(batch, time, self.heads, self.key_dim)
        q, k, v = self.tap("queries", q * self.key_dim**-0.5), self.tap("keys", k), self.tap("values", v)
        log_decay = self.tap("log_decays", log_decay)
        y, memory = gated_linear_attention(
            q, k, v, log_decay, initial_state=state.get("memory"), mask=context.mask, starts=context.starts
        )
        y = rms_norm(self.tap("mixed", y), eps=self.norm_eps) * self.norm_weight * F.silu(gate)
        return dense(self.proj, y.flatten(2)), {"memory": memory}
