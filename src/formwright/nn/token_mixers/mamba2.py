"""Mamba-2: a state-space layer with heads, whose decay is one number a head."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.errors import UserError
from formwright.nn.context import Context
from formwright.nn.functional.dense import dense
from formwright.nn.functional.gated_norm import gated_rms_norm
from formwright.nn.functional.ssd import CHUNK, ssd
from formwright.nn.layers import scale_input, scale_output
from formwright.nn.parts import PARTS, Axis, State
from formwright.nn.token_mixers.mamba import inverse_softplus_of_steps, refuse_sizes
from formwright.nn.token_mixers.recurrent import RecurrentMixer
from formwright.nn.token_mixers.short_convolution import ShortConvolution

#: Between these the first rates of decay are drawn.
RATE_RANGE = (1.0, 16.0)


@PARTS.register("mamba2")
class Mamba2(RecurrentMixer):
    """``y = Wout norm((ssd(x) + D x) * silu(z))``, where ``z``, ``x``, ``B``, ``C`` and the steps are ``Win u``.

    ``x``, ``B`` and ``C`` are convolved over a few tokens together. The state of a head ``(head_dim, states)`` is
    ``S[t] = exp(delta A) S[t-1] + delta x[t] B[t]ᵀ``, read by ``C[t]``; ``delta = softplus(W u + b)``.

    Args:
        dim: channels in and out.
        states: states of each channel.
        expand: channels of ``x`` over ``dim``.
        head_dim: channels of a head.
        groups: how many ``B`` and ``C`` there are for the heads to share; the norm is taken over each group.
        kernel: tokens that the convolution sees.
        chunk: tokens that are computed as one product.
        depth: how many such layers a model has; the initial ``Wout`` is divided by its root.

    Shapes: ``(batch, time, dim)`` to the same. State: ``window`` ``(batch, kernel - 1, channels of x, B and C)`` and
    ``states`` ``(batch, heads, head_dim, states)``, the same at every length.

    Raises:
        UserError: a size is less than 1, the heads do not divide the channels, or the groups the heads.

    Source: Transformers are SSMs: Generalized Models and Efficient Algorithms Through Structured State Space Duality,
    arXiv 2405.21060.
    """

    #: ``C``, ``B``, the convolved tokens, ``delta`` and what the scan gives.
    taps: ClassVar[tuple[str, ...]] = ("queries", "keys", "values", "steps", "mixed")

    def __init__(
        self,
        dim: int,
        *,
        states: int = 128,
        expand: float = 2.0,
        head_dim: int = 64,
        groups: int = 1,
        kernel: int = 4,
        chunk: int = CHUNK,
        depth: int = 1,
    ) -> None:
        super().__init__()
        self.hidden = int(dim * expand)
        refuse_sizes(states=states, head_dim=head_dim, groups=groups, kernel=kernel, chunk=chunk, depth=depth)
        self.heads = self.hidden // head_dim
        if self.heads < 1 or self.hidden % head_dim:
            raise UserError(f"{self.hidden} channels cannot be split into heads of {head_dim}; choose a divisor.")
        if self.heads % groups:
            raise UserError(f"{self.heads} heads cannot share {groups} groups; the groups must divide the heads.")
        self.states, self.head_dim, self.groups, self.chunk, self.depth = states, head_dim, groups, chunk, depth
        self.convolved = self.hidden + 2 * groups * states
        self.in_proj = nn.Linear(dim, self.hidden + self.convolved + self.heads, bias=False)
        self.conv = ShortConvolution(self.convolved, kernel=kernel)
        self.dt_bias = nn.Parameter(torch.empty(self.heads))
        self.A_log = nn.Parameter(torch.empty(self.heads))
        self.D = nn.Parameter(torch.empty(self.heads))
        self.norm_weight = nn.Parameter(torch.ones(self.hidden))
        self.out_proj = nn.Linear(self.hidden, dim, bias=False)
        self.init_weights()

    @torch.no_grad()
    def init_weights(self) -> None:
        """Rates of 1 to 16 and steps of a thousandth to a tenth, at random."""
        self.in_proj.reset_parameters()
        self.out_proj.reset_parameters()
        self.out_proj.weight.div_(math.sqrt(self.depth))
        self.dt_bias.copy_(inverse_softplus_of_steps(self.heads))
        self.A_log.uniform_(*RATE_RANGE).log_()
        self.D.fill_(1.0)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        # The rows of the first product belong to tensors of different sizes, so its inputs alone can be cut.
        return {"in_proj.weight": (None, Axis("residual")), "out_proj.weight": (Axis("residual"), None)}

    def fold_scale_before(self, scale: Tensor, shift: Tensor | None) -> bool:
        return scale_input(self.in_proj, scale, shift)

    def fold_scale_after(self, scale: Tensor) -> bool:
        return scale_output(self.out_proj, scale)

    def state_sizes(self) -> Mapping[str, tuple[int, ...]]:
        return {**self.conv.state_sizes(), "states": (self.heads, self.head_dim, self.states)}

    def mix(self, u: Tensor, state: State, context: Context) -> tuple[Tensor, State]:
        z, x, step = torch.split(dense(self.in_proj, u), [self.hidden, self.convolved, self.heads], dim=-1)
        x, after = self.conv.follow(x, state, context)
        shared = self.groups * self.states
        x, written, read = torch.split(F.silu(x), [self.hidden, shared, shared], dim=-1)
        x = x.reshape(*x.shape[:2], self.heads, self.head_dim)
        written, read = (tensor.reshape(*x.shape[:2], self.groups, self.states) for tensor in (written, read))
        delta, rates = F.softplus(step + self.dt_bias), -torch.exp(self.A_log)
        x, delta = self.tap("values", x), self.tap("steps", delta)
        written, read = self.tap("keys", written), self.tap("queries", read)
        y, states = ssd(
            x,
            delta,
            rates,
            written,
            read,
            initial_state=state.get("states"),
            mask=context.mask,
            starts=context.starts,
            chunk=self.chunk,
        )
        y = torch.addcmul(self.tap("mixed", y), x, self.D.unsqueeze(-1)).flatten(2)
        y = gated_rms_norm(y, z, self.norm_weight, groups=self.groups)
        return dense(self.out_proj, y), {**after, "states": states}
