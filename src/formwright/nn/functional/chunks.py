"""What chunked recurrences share: number types, masks, cutting a sequence into segments and these into chunks.

A recurrence over time becomes matrix products within chunks and a short loop over them. Long sequences are treated a
segment at a time, so that what a segment's operations hand to one another stays in the cache and cost stays linear.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple, ParamSpec, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from formwright.errors import UserError
from formwright.nn.functional.any_length import any_length, first_tokens, gather_blocks

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


def check_chunk(chunk: int) -> None:
    """Refuse chunks without tokens.

    Raises:
        UserError: ``chunk`` is less than 1.
    """
    if chunk < 1:
        raise UserError(f"A chunk of {chunk} tokens holds nothing; choose a chunk of at least 1.")


def chunk_length(time: int, most: int) -> int:
    """The power of two that chunks have: at most ``most``, and no longer than ``time`` tokens need."""
    if any_length(time):
        return int(2 ** (most.bit_length() - 1))
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


class Cuts(NamedTuple):
    """Where sequences begin in chunks, as factors of one and zero, for each chunk of each head.

    Attributes:
        same: for tokens ``t`` and ``s``, whether they are of one sequence.
        first: whether a token's sequence is the one that was there before the chunk.
        last: whether a token's sequence is that of the chunk's last token.
        whole: whether the chunk is of one sequence that was there before.
    """

    same: Float[Tensor, "batch_heads_chunks length length"]
    first: Float[Tensor, "batch_heads_chunks length 1"]
    last: Float[Tensor, "batch_heads_chunks length 1"]
    whole: Float[Tensor, "batch_heads_chunks 1 1"]

    @classmethod
    def of(cls, starts: Bool[Tensor, "batch time"], heads: int, length: int, dtype: torch.dtype) -> Cuts:
        """Those of chunks of ``length`` tokens, laid out as the first two axes of :func:`to_chunks` in one."""
        number = to_chunks(starts[:, :, None, None].to(dtype), length, dtype).cumsum(2)
        end = number[:, :, -1:]
        factors = (number == number.mT, number == 0, number == end, end == 0)
        return cls(*(factor.repeat_interleave(heads, dim=0).flatten(0, 1).to(dtype) for factor in factors))


def chained(
    state: Float[Tensor, "rows *size"], added: Float[Tensor, "rows chunks *size"], kept: Float[Tensor, "rows chunks *_"]
) -> tuple[Float[Tensor, "rows chunks *size"], Float[Tensor, "rows *size"]]:
    """``state = kept * state + added``, chunk by chunk: the states before each, and that after the last."""
    before = []
    for new, factor in zip(added.unbind(1), kept.unbind(1), strict=True):
        before.append(state)
        state = torch.addcmul(new, factor, state)
    return torch.stack(before, dim=1), state


def over_segments(
    segment: Segment,
    inputs: Sequence[Tensor],
    state: Tensor,
    dtype: torch.dtype,
    length: int,
    starts: Bool[Tensor, "batch time"] | None = None,
) -> tuple[Tensor, Tensor]:
    """``segment(*inputs, state) -> (y, state)``, a few tokens at a time along the second axis of all ``inputs``.

    ``y`` is in ``dtype``. Where the time is any, it is a chunk of ``length`` tokens at a time. ``starts``, if there are
    any, are cut likewise and come last.
    """
    time = inputs[0].shape[1]
    if any_length(time):
        return over_any_length(segment, inputs, state, dtype, length, starts)
    last = () if starts is None else (starts,)
    if time <= SEGMENT:
        y, state = segment(*inputs, state, *last)
        return y.to(dtype), state
    outputs = []
    for pieces in zip(*(torch.split(x, SEGMENT, dim=1) for x in (*inputs, *last)), strict=True):
        y, state = segment(*pieces[: len(inputs)], state, *pieces[len(inputs) :])
        outputs.append(y.to(dtype))
    return torch.cat(outputs, dim=1), state


def over_any_length(
    segment: Segment,
    inputs: Sequence[Tensor],
    state: Tensor,
    dtype: torch.dtype,
    length: int,
    starts: Bool[Tensor, "batch time"] | None = None,
) -> tuple[Tensor, Tensor]:
    """:func:`over_segments` as a loop of the exported program, a chunk of ``length`` tokens at a time.

    What fills the last chunk is zero, and the state is that after it.
    """
    from torch._higher_order_ops.scan import scan

    sequences = inputs if starts is None else (*inputs, starts)
    chunks = [gather_blocks(x, length).transpose(0, 1) for x in sequences]

    def step(state: Tensor, pieces: list[Tensor]) -> tuple[Tensor, Tensor]:
        y, state = segment(*pieces[: len(inputs)], state, *pieces[len(inputs) :])
        return state.clone(memory_format=torch.contiguous_format), y.to(dtype).transpose(0, 1)

    state, y = scan(step, state.contiguous(), chunks)
    return first_tokens(y.flatten(0, 1).transpose(0, 1), inputs[0].shape[1]), state


def start_state(
    initial_state: Tensor | None, like: Tensor, shape: Sequence[int], dtype: torch.dtype
) -> Float[Tensor, "batch heads keys values"]:
    """The given state, or zeros."""
    if initial_state is None:
        return like.new_zeros(tuple(shape), dtype=dtype)
    return initial_state.to(dtype)
