"""DeltaNet's layer: a linear-time memory whose writes replace what stood under a key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.errors import UserError
from formwright.nn.context import Context
from formwright.nn.functional.delta_rule import delta_rule
from formwright.nn.functional.dense import dense
from formwright.nn.functional.precision import widened
from formwright.nn.functional.rms import rms_norm
from formwright.nn.functional.short_convolution import short_convolution
from formwright.nn.layers import scale_output
from formwright.nn.parts import PARTS, Axis, State
from formwright.nn.token_mixers.attention import check_heads
from formwright.nn.token_mixers.recurrent import RecurrentMixer

#: Added to the squared length of queries and keys before they are divided by it.
LENGTH_EPS = 1e-6


@PARTS.register("delta_rule")
class DeltaRule(RecurrentMixer):
    """``y = Wout norm(delta_rule(q, k, v, β))`` with ``q, k, v = silu(conv(Wqkv x))`` and ``β = sigmoid(Wb x)``.

    The convolutions see the latest tokens, each channel by itself; queries and keys of a head have unit length, and
    queries are scaled by ``head_dim ** -0.5``. The norm is the root mean square over each head. See
    :func:`~formwright.nn.functional.delta_rule.delta_rule` for the recurrence.

    Args:
        dim: channels in and out.
        heads: number of heads; must divide ``dim``.
        head_dim: channels of a head, where ``heads`` is unset.
        kernel: tokens that the convolutions see.
        gate: multiply the normed heads by ``silu(Wgate x)``.
        negative_eigenvalues: let ``β`` reach 2, so that a state may change its sign (arXiv 2411.12537).
        norm_eps: added to the mean square.

    Shapes: ``(batch, time, dim)`` to the same. State: ``window`` ``(batch, kernel - 1, 3 dim)`` and ``memory``
    ``(batch, heads, head_dim, head_dim)``, the same at every length.

    Raises:
        UserError: the heads do not divide the channels, or a size is less than 1.

    Source: Parallelizing Linear Transformers with the Delta Rule over Sequence Length, arXiv 2406.06484, as
    flash-linear-attention builds it.
    """

    taps: ClassVar[tuple[str, ...]] = ("queries", "keys", "values", "strengths", "mixed")
    resizable: ClassVar[Mapping[str, str]] = {"heads": "heads"}

    def __init__(
        self,
        dim: int,
        *,
        heads: int | None = None,
        head_dim: int = 128,
        kernel: int = 4,
        gate: bool = False,
        negative_eigenvalues: bool = False,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        if kernel < 1:
            raise UserError(f"A convolution over {kernel} tokens sees nothing; choose a kernel of at least 1.")
        heads = max(1, dim // max(1, head_dim)) if heads is None else heads
        check_heads(dim, heads)
        self.heads, self.head_dim = heads, dim // heads
        self.strength = 2.0 if negative_eigenvalues else 1.0
        self.norm_eps = norm_eps
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.conv_weight = nn.Parameter(torch.empty(3 * dim, kernel))
        self.beta = nn.Linear(dim, heads, bias=False)
        self.gate = nn.Linear(dim, dim, bias=False) if gate else None
        self.norm_weight = nn.Parameter(torch.ones(self.head_dim))
        self.proj = nn.Linear(dim, dim, bias=False)
        self.init_weights()

    def init_weights(self) -> None:
        """Taps as PyTorch's convolutions start."""
        bound = self.conv_weight.shape[1] ** -0.5
        nn.init.uniform_(self.conv_weight, -bound, bound)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        residual, head = Axis("residual"), Axis("heads", block=self.head_dim)
        joint = Axis("heads", repeats=3, block=self.head_dim)
        gate = {} if self.gate is None else {"gate.weight": (head, residual)}
        return {
            "qkv.weight": (joint, residual),
            "conv_weight": (joint, None),
            "beta.weight": (Axis("heads"), residual),
            **gate,
            "proj.weight": (residual, head),
        }

    def fold_scale_after(self, scale: Tensor) -> bool:
        return scale_output(self.proj, scale)

    def state_sizes(self) -> Mapping[str, tuple[int, ...]]:
        channels, taps = self.conv_weight.shape
        return {"window": (taps - 1, channels), "memory": (self.heads, self.head_dim, self.head_dim)}

    def mix(self, x: Tensor, state: State, context: Context) -> tuple[Tensor, State]:
        mask, starts = context.mask, context.starts
        qkv, window = short_convolution(
            dense(self.qkv, x), self.conv_weight, initial_state=state.get("window"), mask=mask, starts=starts
        )
        q, k, v = F.silu(qkv).view(*x.shape[:2], 3, self.heads, self.head_dim).unbind(2)
        beta = self.strength * dense(self.beta, x).sigmoid()
        q, k = unit_length(q) * self.head_dim**-0.5, unit_length(k)
        q, k, v = self.tap("queries", q), self.tap("keys", k), self.tap("values", v)
        beta = self.tap("strengths", beta)
        y, memory = delta_rule(q, k, v, beta, initial_state=state.get("memory"), mask=mask, starts=starts)
        y = rms_norm(self.tap("mixed", y), eps=self.norm_eps) * self.norm_weight
        if self.gate is not None:
            y = y * F.silu(dense(self.gate, x)).view(y.shape)
        return dense(self.proj, y.flatten(2)), {"window": window, "memory": memory}


def unit_length(x: Float[Tensor, "*tokens channels"]) -> Float[Tensor, "*tokens channels"]:
    """``x / sqrt(|x|² + eps)``, the length in float32 where ``x`` is of half precision."""
    wide = widened(x)
    square = torch.linalg.vecdot(wide, wide).unsqueeze(-1)
    return (wide * torch.rsqrt(square + LENGTH_EPS)).to(x.dtype)
