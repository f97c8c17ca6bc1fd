"""What chunked recurrences share: number types, masks, cutting a sequence into segments and these into chunks.

A recurrence over time becomes matrix products within chunks and a short loop over them. Long sequences are treated a
segment at a time, so that what a segment's operations hand to one another stays in the cache and cost stays linear.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from formwright.errors import UserError

#: Tokens of a segment.
SEGMENT = 2048

Segment = Callable[..., tuple[Tensor, Tensor]]


_Operands = ParamSpec("_Operands")
_Result = TypeVar("_Result")


def without_autocast(recurrence: Callable[_Operands, _Result]) -> Callable[_Operands, _Result]:
    """Let no product be rounded to half precision: errors of a recurrence add up, and its inverses enlarge them."""

    @functools.wraps(recurrence)
    def exact(*operands: _Operands.args, **options: _Operands.kwargs) -> _Result:
        device = operands[0].device.type  # type: ignore[attr-defined]
        if device == "meta" or not torch.is_autocast_enabled(device):
            return recurrence(*operands, **options)
        with torch.autocast(device, enabled=False):
            return recurrence(*operands, **options)

    return exact


def accumulation_type(dtype: torch.dtype) -> torch.dtype:
    """What sums of ``dtype`` are kept in: at least float32."""
    return torch.promote_types(dtype, torch.float32)


def masked(
    x: Float[Tensor, "batch time *rest"], mask: Bool[Tensor, "batch time"] | None
) -> Float[Tensor, "batch time *rest"]:
    """``x`` with zeros where ``mask`` is false, whatever stood there."""
    return x if mask is None else x.masked_fill(~mask.view(*mask.shape, *[1] * (x.ndim - 2)), 0)


def chunk_length(time: int, most: int) -> int:
    """The power of two that chunks have: at most ``most``, and no longer than ``time`` tokens need.

    Raises:
        UserError: ``most`` is less than 1.
    """
    if most < 1:
        raise UserError(f"A chunk of {most} tokens holds nothing; choose a chunk of at least 1.")
    length = 1
    while length < time and 2 * length <= most:
        length *= 2
    return length


def cut_into_chunks(
    x: Float[Tensor, "batch time heads channels"], length: int, dtype: torch.dtype
) -> Float[Tensor, "batch heads chunks length channels"]:
    """Cut time into chunks, the last one padded with zeros; a view where that is possible."""
    batch, time, heads, channels = x.shape
    padding = -time % length
    x = x.to(dtype)
    if padding:
        x = F.pad(x, (0, 0, 0, 0, 0, padding))
    return x.reshape(batch, x.shape[1] // length, length, heads, channels).permute(0, 3, 1, 2, 4)


def to_chunks(
    x: Float[Tensor, "batch time heads channels"], length: int, dtype: torch.dtype
) -> Float[Tensor, "batch_heads chunks length channels"]:
    """Cut time into chunks, the last one padded with zeros, one head after the other."""
    return cut_into_chunks(x, length, dtype).flatten(0, 1)


def from_chunks(
    y: Float[Tensor, "batch_heads chunks length channels"], heads: int, time: int
) -> Float[Tensor, "batch time heads channels"]:
    """The inverse of :func:`to_chunks`, without the padding."""
    rows, count, length, channels = y.shape
    y = y.reshape(rows // heads, heads, count, length, channels).permute(0, 2, 3, 1, 4)
    return y.flatten(1, 2)[:, :time]


def over_segments(
    segment: Segment, inputs: Sequence[Tensor], state: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """``segment(*inputs, state) -> (y, state)``, a few tokens at a time along the second axis of all ``inputs``."""
    time = inputs[0].shape[1]
    if time <= SEGMENT:
        y, state = segment(*inputs, state)
        return y.to(dtype), state
    outputs = []
    for pieces in zip(*(torch.split(x, SEGMENT, dim=1) for x in inputs), strict=True):
        y, state = segment(*pieces, state)
        outputs.append(y.to(dtype))
    return torch.cat(outputs, dim=1), state


def start_state(
    initial_state: Tensor | None, like: Tensor, shape: Sequence[int], dtype: torch.dtype
) -> Float[Tensor, "batch heads keys values"]:
    """The given state, or zeros."""
    if initial_state is None:
        return like.new_zeros(tuple(shape), dtype=dtype)
    return initial_state.to(dtype)
