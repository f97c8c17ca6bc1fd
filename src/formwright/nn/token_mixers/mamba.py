"""Mamba: a gated selective state-space layer."""

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
from formwright.nn.functional.selective_scan import selective_scan
from formwright.nn.layers import scale_input, scale_output
from formwright.nn.parts import PARTS, Axis, State
from formwright.nn.token_mixers.recurrent import RecurrentMixer
from formwright.nn.token_mixers.short_convolution import ShortConvolution

#: Between these the first step sizes are spread evenly in their logarithm, and none is below the floor.
STEP_RANGE, STEP_FLOOR = (1e-3, 1e-1), 1e-4


def inverse_softplus_of_steps(count: int) -> Tensor:
    """Biases whose softplus is a random step size, as the authors start."""
    low, high = map(math.log, STEP_RANGE)
    steps = torch.exp(torch.empty(count).uniform_(low, high)).clamp(min=STEP_FLOOR)
    return steps + torch.log(-torch.expm1(-steps))


def refuse_sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise UserError(f"A state-space layer with {name}={size} cannot be built; choose at least 1.")


@PARTS.register("mamba")
class Mamba(RecurrentMixer):
    """``y = Wout ((scan(x) + D x) * silu(z))`` with ``x, z = Win u`` and ``x`` convolved over a few tokens.

    The scan is ``h[t] = exp(delta A) h[t-1] + delta B x[t]``, read by ``C``; the step ``delta = softplus(W (V x) + b)``
    (``V`` to ``rank`` channels), ``B`` and ``C`` are computed from each token, so the layer chooses what it remembers.

    Args:
        dim: channels in and out.
        states: states of each channel.
        expand: channels of ``x`` over ``dim``; ``hidden`` gives their number itself.
        kernel: tokens that the convolution sees.
        rank: channels from which the step sizes are computed; a sixteenth of ``dim``, rounded up, if unset.
        selective: whether the step, ``B`` and ``C`` depend on the token; without, they are learned constants, and the
            layer is a linear time-invariant one.
        depth: how many such layers a model has; the initial ``Wout`` is divided by its root.

    Shapes: ``(batch, time, dim)`` to the same. State: ``window`` ``(batch, kernel - 1, hidden)`` and ``states``
    ``(batch, hidden, states)``, the same at every length.

    Raises:
        UserError: a size is less than 1.

    Source: Mamba: Linear-Time Sequence Modeling with Selective State Spaces, arXiv 2312.00752.
    """

    #: ``C``, ``B``, the convolved tokens, ``delta`` and what the scan gives.
    taps: ClassVar[tuple[str, ...]] = ("queries", "keys", "values", "steps", "mixed")
    resizable: ClassVar[dict[str, str]] = {"hidden": "hidden"}

    def __init__(
        self,
        dim: int,
        *,
        states: int = 16,
        expand: float = 2.0,
        hidden: int | None = None,
        kernel: int = 4,
        rank: int | None = None,
        selective: bool = True,
        depth: int = 1,
    ) -> None:
        super().__init__()
        self.hidden = int(dim * expand) if hidden is None else hidden
        self.states = states
        self.rank = math.ceil(dim / 16) if rank is None else rank
        self.depth = depth
        refuse_sizes(hidden=self.hidden, states=states, kernel=kernel, rank=self.rank, depth=depth)
        self.in_proj = nn.Linear(dim, 2 * self.hidden, bias=False)
        self.conv = ShortConvolution(self.hidden, kernel=kernel)
        self.x_proj = nn.Linear(self.hidden, self.rank + 2 * states, bias=False) if selective else None
        self.dt_proj = nn.Linear(self.rank, self.hidden) if selective else None
        self.constants = None if selective else _Constants(self.hidden, states)
        self.A_log = nn.Parameter(torch.empty(self.hidden, states))
        self.D = nn.Parameter(torch.empty(self.hidden))
        self.out_proj = nn.Linear(self.hidden, dim, bias=False)
        self.init_weights()

    @torch.no_grad()
    def init_weights(self) -> None:
        """Rates of 1 to ``states``, steps of a thousandth to a tenth; without them nothing is remembered for long."""
        self.in_proj.reset_parameters()
        self.out_proj.reset_parameters()
        self.out_proj.weight.div_(math.sqrt(self.depth))
        if self.x_proj is not None and self.dt_proj is not None:
            self.x_proj.reset_parameters()
            nn.init.uniform_(self.dt_proj.weight, -(self.rank**-0.5), self.rank**-0.5)
            self.dt_proj.bias.copy_(inverse_softplus_of_steps(self.hidden))
        self.A_log.copy_(torch.arange(1, self.states + 1).log().expand_as(self.A_log))
        self.D.fill_(1.0)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        hidden, residual = Axis("hidden"), Axis("residual")
        own: dict[str, tuple[Axis | None, ...]] = {
            "in_proj.weight": (Axis("hidden", repeats=2), residual),
            "conv.weight": (hidden, None),
            "conv.bias": (hidden,),
            "A_log": (hidden, None),
            "D": (hidden,),
            "out_proj.weight": (residual, hidden),
        }
        if self.constants is not None:
            return own | {"constants.step": (hidden,)}
        return own | {"x_proj.weight": (None, hidden), "dt_proj.weight": (hidden, None)}

    def fold_scale_before(self, scale: Tensor, shift: Tensor | None) -> bool:
        return scale_input(self.in_proj, scale, shift)

    def fold_scale_after(self, scale: Tensor) -> bool:
        return scale_output(self.out_proj, scale)

    def state_sizes(self) -> Mapping[str, tuple[int, ...]]:
        return {**self.conv.state_sizes(), "states": (self.hidden, self.states)}

    def mix(self, u: Tensor, state: State, context: Context) -> tuple[Tensor, State]:
        x, z = dense(self.in_proj, u).chunk(2, dim=-1)
        x, after = self.conv.follow(x, state, context)
        x = F.silu(x)
        delta, written, read = self._selected(x)
        rates = -torch.exp(self.A_log)
        x, delta = self.tap("values", x), self.tap("steps", delta)
        written, read = self.tap("keys", written), self.tap("queries", read)
        y, states = selective_scan(
            x, delta, rates, written, read, initial_state=state.get("states"), mask=context.mask, starts=context.starts
        )
        y = torch.addcmul(self.tap("mixed", y), x, self.D) * F.silu(z)
        return dense(self.out_proj, y), {**after, "states": states}

    def _selected(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The step size of each channel, and ``B`` and ``C``, for each token."""
        if self.x_proj is None or self.dt_proj is None:
            assert self.constants is not None
            return self.constants(x)
        step, written, read = torch.split(self.x_proj(x), [self.rank, self.states, self.states], dim=-1)
        return F.softplus(dense(self.dt_proj, step)), written, read


class _Constants(nn.Module):
    """Step, ``B`` and ``C`` of a time-invariant layer, the same for every token."""

    def __init__(self, channels: int, states: int) -> None:
        super().__init__()
        self.step = nn.Parameter(torch.empty(channels))
        self.B = nn.Parameter(torch.empty(states))
        self.C = nn.Parameter(torch.empty(states))
        self.init_weights()

    @torch.no_grad()
    def init_weights(self) -> None:
        self.step.copy_(inverse_softplus_of_steps(len(self.step)))
        nn.init.normal_(self.B)
        nn.init.normal_(self.C)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        step = F.softplus(self.step).expand(x.shape)
        return step, self.B.expand(*x.shape[:-1], -1), self.C.expand(*x.shape[:-1], -1)
