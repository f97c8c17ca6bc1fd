"""What all launches share: sizes of tiles, and number types in Triton's words."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from formwright.errors import UserError

#: Tokens of a chunk, and the most channels of a tile: products of more do not fit into the registers of a program.
CHUNK = TILE = 32
#: How often a chunk can be halved.
LEVELS = CHUNK.bit_length() - 1
#: The smallest side of a matrix that a GPU multiplies.
SMALLEST = 16


def differentiable_once(backward: Callable[..., tuple[Tensor | None, ...]]) -> Callable[..., tuple[Tensor | None, ...]]:
    """Refuse to make gradients that are to be differentiated again, which kernels would leave out without a word."""

    @functools.wraps(backward)
    def once(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise UserError(
                "The kernels compute first derivatives only, and create_graph=True asks for second ones; call "
                "formwright.nn.kernels.disable() before, and PyTorch computes both."
            )
        return backward(ctx, *gradients)

    return once


def tile(width: int, most: int = TILE) -> int:
    """Columns of a tile: the power of two that holds ``width``, between what a product needs and ``most``."""
    return max(SMALLEST, min(most, triton.next_power_of_2(width)))


def on_device_of(x: Tensor) -> AbstractContextManager[None]:
    """Kernels are launched where ``x`` is, not on the current device; nothing for a CPU."""
    return torch.cuda.device_of(x)  # type: ignore[no-untyped-call]


def accumulator(dtype: torch.dtype) -> tl.dtype:
    """The type that sums of a state of ``dtype`` are kept in."""
    return tl.float64 if dtype == torch.float64 else tl.float32
