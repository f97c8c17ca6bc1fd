"""The state-space duality of Mamba-2: a recurrence with one decay a head, computed as products of matrices.

Within a chunk every token reads every earlier one, as attention does, with weights ``C[i] · B[j]`` that fade with the
decay between the two. What a chunk leaves behind is a product too, and only these states pass from chunk to chunk in a
loop. Heads of a group share ``B`` and ``C``, so their channels lie side by side in one product.
"""

# ruff: noqa: N803, N806  # A, B and C are the names of the paper
from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from formwright.errors import UserError
from formwright.nn import kernels
from formwright.nn.functional.any_length import any_length
from formwright.nn.functional.chunks import (
    accumulation_type,
    chained,
    over_any_length,
    start_state,
    without_autocast,
)
from formwright.nn.functional.one_operation import one_operation

#: Tokens of a chunk: products within it cost as many operations a token, those with the state do not depend on it.
CHUNK = 64
#: Chunks that are computed at once, so that what they need stays in the cache.
BLOCK = 8
#: Tokens whose decays are summed up one pair after the other.
_RUN = 8
#: A power of two that is zero in every type: stronger decays are taken as this one, minus infinity among them.
_NOTHING_LEFT = -2000.0


@without_autocast
def ssd(
    x: Float[Tensor, "batch time heads channels"],
    delta: Float[Tensor, "batch time heads"],
    A: Float[Tensor, " heads"],
    B: Float[Tensor, "batch time groups states"],
    C: Float[Tensor, "batch time groups states"],
    *,
    initial_state: Float[Tensor, "batch heads channels states"] | None = None,
    mask: Bool[Tensor, "batch time"] | None = None,
    starts: Bool[Tensor, "batch time"] | None = None,
    chunk: int = CHUNK,
) -> tuple[Float[Tensor, "batch time heads channels"], Float[Tensor, "batch heads channels states"]]:
    """``S[t] = exp(delta[t] A) S[t-1] + delta[t] x[t] B[t]ᵀ`` and ``y[t] = S[t] C[t]``, for each head.

    Args:
        x: what is written into the state.
        delta: the size of each step, positive.
        A: the rate of each head, negative.
        B: at which place of the state it is written; a group is shared by ``heads / groups`` heads.
        C: how the states are read.
        initial_state: the state before the first token; zeros if unset.
        mask: true for real tokens; others leave the state unchanged.
        starts: true where another sequence begins, which nothing before it reaches.
        chunk: tokens of a chunk.

    Returns:
        ``y`` in the type of ``x``, and the state after the last token, at least in float32.

    Raises:
        UserError: the chunk has no token, or the groups do not divide the heads.

    Source: Transformers are SSMs: Generalized Models and Efficient Algorithms Through Structured State Space Duality,
    arXiv 2405.21060.
    """
    if chunk < 1:
        raise UserError(f"A chunk of {chunk} tokens cannot be computed; choose at least 1.")
    batch, time, heads, channels = x.shape
    groups, states = B.shape[2:]
    if heads % groups:
        raise UserError(f"{heads} heads cannot share {groups} groups; the groups must divide the heads.")
    dtype = torch.promote_types(x.dtype, torch.float32)
    if mask is not None:
        delta = delta * mask.unsqueeze(-1)
    delta = delta.to(dtype)
    if time == 0:
        return x, start_state(initial_state, x, (batch, heads, channels, states), dtype)
    if initial_state is not None and starts is None and time == 1:
        y, state = ssd_step(x[:, 0], delta[:, 0], A, B[:, 0], C[:, 0], initial_state.to(dtype))
        return y.unsqueeze(1), state
    if kernels.takes(x) and starts is None:
        from formwright.nn.kernels.recurrence import decayed_recurrence

        before = start_state(initial_state, x, (batch, heads, channels, states), dtype).transpose(2, 3)
        y, state = decayed_recurrence(C, B, delta.unsqueeze(-1) * x.to(dtype), delta * A.to(dtype), before)
        return y.to(x.dtype), state.transpose(2, 3)
    shared = heads // groups
    written = (delta.unsqueeze(-1) * x.to(dtype)).view(batch, time, groups, shared, channels)
    powers = (delta * (A.to(dtype) / math.log(2))).clamp(min=_NOTHING_LEFT)
    if starts is not None:
        powers = powers.masked_fill(starts.unsqueeze(-1), _NOTHING_LEFT)
    powers = powers.view(batch, time, groups, shared)
    if initial_state is None:
        state = x.new_zeros(batch, groups, states, shared * channels, dtype=dtype)
    else:
        state = initial_state.to(dtype).reshape(batch, groups, shared * channels, states).transpose(2, 3)
    y, state = _in_blocks(written, powers, B.to(dtype), C.to(dtype), state, chunk)
    return y.flatten(2, 3).to(x.dtype), state.transpose(2, 3).reshape(batch, heads, channels, states)


def _shaped(written: Tensor, powers: Tensor, B: Tensor, C: Tensor, state: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    return written.new_empty(written.shape), state.new_empty(state.shape)


@one_operation("ssd", _shaped)
def _in_blocks(
    written: Tensor, powers: Tensor, B: Tensor, C: Tensor, state: Tensor, chunk: int
) -> tuple[Tensor, Tensor]:
    """:func:`ssd` of tokens in groups; decays are in powers of two."""
    time = written.shape[1]
    if any_length(time):

        def one_chunk(*operands: Tensor) -> tuple[Tensor, Tensor]:
            return _in_blocks_of(chunk, *operands)

        return over_any_length(one_chunk, (written, powers, B, C), state, state.dtype, chunk)
    return _in_blocks_of(min(chunk, time), written, powers, B, C, state)


def _in_blocks_of(
    chunk: int, written: Tensor, powers: Tensor, B: Tensor, C: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    written_chunks, powers = _in_chunks(written, chunk), _in_chunks(powers, chunk)
    B, C = _in_chunks(B, chunk).transpose(2, 3), _in_chunks(C, chunk).transpose(2, 3)
    pieces = []
    split = (torch.split(sequence, BLOCK, dim=1) for sequence in (written_chunks, powers, B, C))
    for some, of_powers, of_B, of_C in zip(*split, strict=True):
        y, state = _block(some, of_powers, of_B, of_C, state)
        pieces.append(y)
    y = pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)
    return y.flatten(1, 2)[:, : written.shape[1]], state


def _in_chunks(sequence: Tensor, chunk: int) -> Tensor:
    """``(batch, time, ...)`` as ``(batch, chunks, chunk, ...)``; steps of zero are appended, which change no state."""
    batch, time, *rest = sequence.shape
    if time % chunk:
        sequence = F.pad(sequence, (0, 0) * len(rest) + (0, chunk - time % chunk))
    return sequence.view(batch, sequence.shape[1] // chunk, chunk, *rest)


def _block(
    written: Float[Tensor, "batch chunks chunk groups heads channels"],
    powers: Float[Tensor, "batch chunks chunk groups heads"],
    B: Float[Tensor, "batch chunks groups chunk states"],
    C: Float[Tensor, "batch chunks groups chunk states"],
    state: Float[Tensor, "batch groups states width"],
) -> tuple[Float[Tensor, "batch chunks chunk groups heads channels"], Float[Tensor, "batch groups states width"]]:
    """Some chunks: what they give and the state after them; decays are in powers of two, ``width`` is all channels."""
    channels = written.shape[-1]
    since_start = powers.cumsum(2)
    decays = segment_sums(powers.permute(0, 1, 3, 4, 2)).exp2_()
    to_end = decays[..., -1, :].permute(0, 1, 4, 2, 3).unsqueeze(-1)
    weights = decays * (C @ B.transpose(-1, -2)).unsqueeze(3)
    within = (weights @ written.permute(0, 1, 3, 4, 2, 5)).permute(0, 1, 4, 2, 3, 5)

    left = B.transpose(-1, -2) @ (written * to_end).flatten(4).transpose(2, 3)
    decay = torch.exp2(since_start[:, :, -1]).unsqueeze(3).repeat_interleave(channels, dim=4)
    states, state = chained(state, left, decay)
    before = (C @ states).transpose(2, 3).view(written.shape)
    return torch.addcmul(within, torch.exp2(since_start).unsqueeze(-1), before), state


def segment_sums(logs: Float[Tensor, "*rows tokens"]) -> Float[Tensor, "*rows tokens tokens"]:
    """The sum of ``logs`` after token ``s`` up to and with ``t``, at ``(t, s)``; minus infinity where ``s > t``.

    Differences of sums since the start would lose the small terms behind a large one. Here only terms that belong to a
    sum are added up: within a run of a few tokens by a product with zeros and ones; across runs as what is left of the
    first, all of those between, and what has passed of the last.
    """
    tokens = logs.shape[-1]
    if tokens <= _RUN:
        index = torch.arange(tokens, device=logs.device)
        until, after = index <= index[:, None], index > index[:, None]
        counted = (until.unsqueeze(1) & after.unsqueeze(0)).flatten(0, 1).to(logs.dtype)
        bias = torch.zeros(tokens, tokens, dtype=logs.dtype, device=logs.device).masked_fill_(after, -torch.inf)
        return F.linear(logs, counted, bias.flatten()).view(*logs.shape, tokens)
    runs = F.pad(logs, (0, -tokens % _RUN)).reshape(*logs.shape[:-1], -(-tokens // _RUN), _RUN)
    inside, passed = segment_sums(runs), runs.cumsum(-1)
    between = F.pad(segment_sums(passed[..., -1])[..., :-1, :], (0, 0, 1, 0), value=-torch.inf)
    left = (between.unsqueeze(-1) + inside[..., -1, :].unsqueeze(-3)).flatten(-2)
    sums = passed.unsqueeze(-1) + left.unsqueeze(-2)
    blocks = sums.view(*runs.shape, *runs.shape[-2:])
    if torch.compiler.is_exporting():  # a program that is exported writes to nothing
        same = torch.eye(runs.shape[-2], dtype=torch.bool, device=logs.device)[:, None, :, None]
        sums = torch.where(same, inside.unsqueeze(-2), blocks).flatten(-2)
    else:
        blocks.diagonal(dim1=-4, dim2=-2).copy_(inside.movedim(-3, -1))
    return sums.flatten(-3, -2)[..., :tokens, :tokens]


def ssd_step(
    x: Float[Tensor, "batch heads channels"],
    delta: Float[Tensor, "batch heads"],
    A: Float[Tensor, " heads"],
    B: Float[Tensor, "batch groups states"],
    C: Float[Tensor, "batch groups states"],
    state: Float[Tensor, "batch heads channels states"],
) -> tuple[Float[Tensor, "batch heads channels"], Float[Tensor, "batch heads channels states"]]:
    """One token of :func:`ssd`: ``y`` and the state after it."""
    dtype = accumulation_type(torch.promote_types(x.dtype, state.dtype))
    batch, groups, states = B.shape
    delta = delta.to(dtype)
    shared, channels = x.shape[1] // groups, x.shape[2]
    decay = torch.exp(delta * A.to(dtype)).view(batch, groups, shared, 1, 1)
    written = (delta.unsqueeze(-1) * x.to(dtype)).view(batch, groups, shared, channels, 1)
    before = state.to(dtype).view(batch, groups, shared, channels, states)
    after = torch.addcmul(written * B.to(dtype)[:, :, None, None], decay, before)
    y = after.flatten(2, 3) @ C.to(dtype).unsqueeze(-1)
    return y.view(x.shape).to(x.dtype), after.view(state.shape)
