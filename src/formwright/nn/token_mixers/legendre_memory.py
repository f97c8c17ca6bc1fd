"""LMUFormer's mixer: a memory of fixed linear dynamics between two learned projections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.errors import UserError
from formwright.nn.context import Context
from formwright.nn.convolution import fold_batch_norm
from formwright.nn.functional.legendre_memory import LegendreTables, legendre_memory, legendre_tables
from formwright.nn.norms import BatchNorm
from formwright.nn.parts import PARTS, Axis, InnerAxes, State, sharing
from formwright.nn.token_mixers.recurrent import RecurrentMixer


@PARTS.register("legendre_memory")
class LegendreMemory(RecurrentMixer):
    """``y = norm(W h)``, ``h_t = relu(Wh [m_t; x_t] + b)``, ``m_t = Ā m_{t-1} + B̄ u_t``, ``u_t = relu(Wu x_t + b)``.

    One signal ``u`` is remembered over the last ``window`` tokens as ``order`` Legendre coefficients; ``Ā`` and ``B̄``
    are not learned. The norm is a batch norm. See
    :func:`~formwright.nn.functional.legendre_memory.legendre_memory`.

    Args:
        dim: channels in and out.
        window: tokens that the memory reaches back.
        order: coefficients; ``dim`` if unset.

    Shapes: ``(batch, time, dim)`` to the same. State: ``memory`` ``(batch, 1, order)``, the same at every length.

    Raises:
        UserError: a size is less than 1.

    Source: LMUFormer: Low Complexity Yet Powerful Spiking Model With Legendre Memory Units, arXiv 2402.04882, whose
    code takes sequences of exactly ``window`` tokens; here any length will do.
    """

    taps: ClassVar[tuple[str, ...]] = ("signal", "mixed", "hidden")

    def __init__(self, dim: int, *, window: int = 128, order: int | None = None) -> None:
        super().__init__()
        order = dim if order is None else order
        if window < 1 or order < 1:
            raise UserError(f"A memory of {order} numbers over {window} tokens holds nothing; both start at 1.")
        self.order = order
        self.write = nn.Linear(dim, 1)
        self.read = nn.Linear(order + dim, dim)
        self.proj = nn.Linear(dim, dim)
        self.norm: BatchNorm | None = BatchNorm(dim)
        # Kept in float64 and out of the state: they follow from the sizes, and rounded ones cannot be widened again.
        self.__dict__["tables"] = legendre_tables(order, window)
        self.__dict__["converted"] = {}

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        residual = Axis("residual")
        return {
            "write.weight": (None, residual),
            "read.weight": (None, Axis("residual", before=self.order)),  # the memory, then the token
            "proj.weight": (residual, None),
        }

    def inner_axes(self) -> InnerAxes:
        return sharing("norm")

    def fold(self) -> None:
        """Take the batch norm into the projection before it, in place."""
        if self.norm is not None and fold_batch_norm(self.proj, self.norm.norm):
            self.norm = None

    def state_sizes(self) -> Mapping[str, tuple[int, ...]]:
        return {"memory": (1, self.order)}

    def mix(self, x: Tensor, state: State, context: Context) -> tuple[Tensor, State]:
        signal = self.tap("signal", F.relu(self.write(x)))
        m, memory = legendre_memory(
            signal, self._tables(x), initial_state=state.get("memory"), mask=context.mask, starts=context.starts
        )
        remembered = self.tap("mixed", m.squeeze(2))
        h = self.tap("hidden", F.relu(self.read(torch.cat([remembered, x], dim=-1))))
        y = self.proj(h)
        return (y if self.norm is None else self.norm(y, context)), {"memory": memory}

    def _tables(self, x: Tensor) -> LegendreTables:
        """The tables where ``x`` is, in the type that its memory is kept in."""
        tables: LegendreTables = self.__dict__["tables"]
        dtype = torch.promote_types(x.dtype, torch.float32)
        if torch.compiler.is_compiling():
            return tables.to(x, dtype)
        converted: dict[tuple[torch.device, torch.dtype], LegendreTables] = self.__dict__["converted"]
        key = (x.device, dtype)
        if key not in converted:
            converted[key] = tables.to(x, dtype)
        return converted[key]
