"""A short causal depthwise convolution, by itself and inside the mixers that look at a few tokens first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.nn.context import Context
from formwright.nn.functional.short_convolution import short_convolution
from formwright.nn.parts import PARTS, Axis, State
from formwright.nn.token_mixers.recurrent import RecurrentMixer


@PARTS.register("short_convolution")
class ShortConvolution(RecurrentMixer):
    """``y[t, c] = b[c] + sum over k of W[c, k] x[t - (kernel - 1) + k, c]``: each channel by itself, the past only.

    Args:
        dim: channels.
        kernel: how many tokens are seen, the present one included.
        bias: whether to add ``b``.

    Shapes: ``(batch, time, dim)`` to the same; masked tokens count as zero. State: ``window``
    ``(batch, kernel - 1, dim)``, the latest inputs.

    Raises:
        UserError: ``kernel`` is less than 1.
    """

    widens: ClassVar[bool] = False

    def __init__(self, dim: int, *, kernel: int = 4, bias: bool = True) -> None:
        super().__init__()
        if kernel < 1:
            raise UserError(f"A convolution over {kernel} tokens sees nothing; choose a kernel of at least 1.")
        self.weight = nn.Parameter(torch.empty(dim, kernel))
        self.bias = nn.Parameter(torch.empty(dim)) if bias else None
        self.init_weights()

    def init_weights(self) -> None:
        """As PyTorch's convolutions start: uniform up to the root of one over the number of taps."""
        bound = self.weight.shape[1] ** -0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return {"weight": (Axis("residual"), None), "bias": (Axis("residual"),)}

    def state_sizes(self) -> Mapping[str, tuple[int, ...]]:
        dim, kernel = self.weight.shape
        return {"window": (kernel - 1, dim)}

    def mix(self, x: Tensor, state: State, context: Context) -> tuple[Tensor, State]:
        y, window = short_convolution(
            x, self.weight, self.bias, initial_state=state.get("window"), mask=context.mask, starts=context.starts
        )
        return y, {"window": window}

    def follow(self, x: Tensor, state: State, context: Context) -> tuple[Tensor, State]:
        """As :meth:`mix`, called like any part where nothing came before, so that it is seen from outside."""
        return self.mix(x, state, context) if state else (self(x, context), {})
