"""Linear attention whose state forgets, each key channel at a rate of its own that depends on the token.

``S_t = diag(a_t) S_{t-1} + k_t v_tᵀ`` with decays ``a_t = exp(g_t)`` in (0, 1], and ``y_t = S_tᵀ q_t``. The weight of
token ``s`` for token ``t`` is ``sum over c of q_tc k_sc a_{s+1,c} ... a_tc``. Where no channel fades much in a chunk,
queries are multiplied and keys divided by the decay since its start, and the weights are one matrix product. Stronger
decays would overflow. For them a chunk is halved again and again: across the border of two halves the weight is a
product of what decays up to the border and what decays from it, both at most one. No decay is divided by then, so that
any is safe, zero included.

Source: Gated Linear Attention Transformers with Hardware-Efficient Training, arXiv 2312.06635 (whose secondary chunks
need logarithms of decays of limited size).
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from formwright.nn import kernels
from formwright.nn.functional.chunks import (
    Cuts,
    accumulation_type,
    chained,
    check_chunk,
    chunk_length,
    cut_into_chunks,
    from_chunks,
    masked,
    over_segments,
    start_state,
    to_chunks,
    without_autocast,
)
from formwright.nn.functional.one_operation import one_operation
from formwright.nn.functional.transforms import values_are_known

#: Tokens of a chunk where decays are mild, and at most where they are strong.
CHUNK, STRONG_CHUNK = 64, 32


@without_autocast
def gated_linear_attention(
    q: Float[Tensor, "batch time heads keys"],
    k: Float[Tensor, "batch time heads keys"],
    v: Float[Tensor, "batch time heads values"],
    log_decay: Float[Tensor, "batch time heads keys"],
    *,
    initial_state: Float[Tensor, "batch heads keys values"] | None = None,
    mask: Bool[Tensor, "batch time"] | None = None,
    starts: Bool[Tensor, "batch time"] | None = None,
    chunk: int = CHUNK,
) -> tuple[Float[Tensor, "batch time heads values"], Float[Tensor, "batch heads keys values"]]:
    """``S_t = diag(exp(g_t)) S_{t-1} + k_t v_tᵀ``, ``y_t = S_tᵀ q_t``.

    Args:
        q: queries, scaled.
        k: keys.
        v: values.
        log_decay: ``g``, at most zero; minus infinity forgets everything.
        initial_state: the final state of what came before.
        mask: false for tokens that change nothing.
        starts: true where another sequence begins, which nothing before it reaches.
        chunk: tokens of a chunk, rounded down to a power of two; at most 32 where decays are strong.

    Returns:
        The outputs in the type of ``v`` and the final state in at least float32.

    Raises:
        UserError: ``chunk`` is less than 1.
    """
    dtype = accumulation_type(q.dtype)
    check_chunk(chunk)
    k, v, log_decay = masked(k, mask), masked(v, mask), masked(log_decay, mask)
    batch, time, heads, keys = q.shape
    state = start_state(initial_state, q, (batch, heads, keys, v.shape[-1]), dtype)
    if time == 0:
        return v, state
    if time == 1 and starts is None:
        y, state = gated_linear_attention_step(q[:, 0], k[:, 0], v[:, 0], log_decay[:, 0], state)
        return y[:, None], state
    if kernels.takes(q) and starts is None:
        from formwright.nn.kernels.recurrence import decayed_recurrence

        return decayed_recurrence(q, k, v, log_decay, state)

    return _in_chunks(q, k, v, log_decay, state, starts, chunk)


def _shaped(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state: Tensor, starts: Tensor | None, chunk: int
) -> tuple[Tensor, Tensor]:
    return v.new_empty(v.shape), state.new_empty(state.shape)


@one_operation("gated_linear_attention", _shaped)
def _in_chunks(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state: Tensor, starts: Tensor | None, chunk: int
) -> tuple[Tensor, Tensor]:
    length = chunk_length(q.shape[1], chunk)

    def segment(*operands: Tensor) -> tuple[Tensor, Tensor]:
        return _segment(*operands, length=length)

    return over_segments(segment, (q, k, v, log_decay), state, v.dtype, length, starts)


def _segment(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state: Tensor, starts: Tensor | None = None, *, length: int
) -> tuple[Tensor, Tensor]:
    batch, time, heads, keys = q.shape
    dtype = state.dtype
    summed = to_chunks(log_decay, length, dtype).flatten(0, 1).cumsum(1)
    mild = _mild(summed)
    if not mild and length > STRONG_CHUNK:
        return _segment(q, k, v, log_decay, state, starts, length=STRONG_CHUNK)
    cuts = None if starts is None else Cuts.of(starts, heads, length, dtype)
    values = to_chunks(v, length, dtype)
    rows, chunks = values.shape[:2]
    v = values.flatten(0, 1)
    if mild:
        since = summed.exp()
        kept = since[:, -1:]
        # The decays come first: what is computed lies in memory as they do, without copies of queries and keys.
        shape = (batch, heads, chunks, length, keys)
        q = (since.view(shape) * cut_into_chunks(q, length, dtype)).view(since.shape)
        k = (since.reciprocal().view(shape) * cut_into_chunks(k, length, dtype)).view(since.shape)
        scores, left = torch.bmm(q, k.mT).tril_(), k * kept
    else:
        q, k, log_decay = (to_chunks(x, length, dtype).flatten(0, 1) for x in (q, k, log_decay))
        scores, since, until = decayed_scores(q, k, log_decay.exp())
        kept = since[:, -1:]
        q, left = q * since, k * until
    if cuts is not None:
        scores, q, left, kept = scores * cuts.same, q * cuts.first, left * cuts.last, kept * cuts.whole
    added = torch.bmm(left.mT, v)
    kept, added = kept.mT.reshape(rows, chunks, keys, 1), added.view(rows, chunks, *state.shape[2:])
    before, last = chained(state.reshape(rows, *state.shape[2:]), added, kept)
    y = torch.baddbmm(torch.bmm(q, before.flatten(0, 1)), scores, v).view(values.shape)
    return from_chunks(y, heads, time), last.view(state.shape)


#: Logarithm of the strongest decay over a chunk that is divided by: its inverse is far from the largest float32.
_MILDEST_SUM = -30.0


def _mild(summed: Tensor) -> bool:
    """Whether the decays up to the end of every chunk can be divided by; not asked while values are not known yet."""
    return summed.is_meta or (values_are_known(summed) and bool((summed[:, -1] >= _MILDEST_SUM).all()))


def decayed_scores(
    q: Float[Tensor, "chunks length keys"],
    k: Float[Tensor, "chunks length keys"],
    decay: Float[Tensor, "chunks length keys"],
) -> tuple[
    Float[Tensor, "chunks length length"],
    Float[Tensor, "chunks length keys"],
    Float[Tensor, "chunks length keys"],
]:
    """Weights of tokens ``s`` for tokens ``t >= s`` within each chunk, whose length is a power of two.

    Returns:
        The weights, zero where ``s > t``; the decay from the start of the chunk up to and with each token; and the
        decay after each token up to the end of the chunk.
    """
    chunks, length, keys = q.shape
    scores = (q * k).sum(-1).view(chunks, length, 1, 1)
    since, until = decay, torch.ones_like(decay)
    block = 1
    while block < length:
        halves = (chunks, length // (2 * block), 2, block)
        q_late = q.view(*halves, keys)[:, :, 1]
        k_early = k.view(*halves, keys)[:, :, 0]
        since_early, since_late = since.view(*halves, keys).unbind(2)
        until_early, until_late = until.view(*halves, keys).unbind(2)
        across = _products(q_late * since_late, k_early * until_early)
        early, late = scores.view(*halves, block).unbind(2)
        scores = torch.cat([F.pad(early, (0, block)), torch.cat([across, late], dim=-1)], dim=2)
        since = torch.cat([since_early, since_late * since_early[:, :, -1:]], dim=2)
        until = torch.cat([until_early * since_late[:, :, -1:], until_late], dim=2)
        block *= 2
    return scores.view(chunks, length, length), since.view(decay.shape), until.view(decay.shape)


def _products(a: Tensor, b: Tensor) -> Tensor:
    """``a bᵀ``; a product of rows of one token each costs more as a matrix product."""
    return (a * b).sum(-1, keepdim=True) if a.shape[-2] == 1 else a @ b.transpose(-1, -2)


@without_autocast
def gated_linear_attention_step(
    q: Float[Tensor, "batch heads keys"],
    k: Float[Tensor, "batch heads keys"],
    v: Float[Tensor, "batch heads values"],
    log_decay: Float[Tensor, "batch heads keys"],
    state: Float[Tensor, "batch heads keys values"],
) -> tuple[Float[Tensor, "batch heads values"], Float[Tensor, "batch heads keys values"]]:
    """One token of :func:`gated_linear_attention`."""
    dtype = state.dtype
    kept = log_decay.to(dtype).exp().unsqueeze(-1) * state
    state = torch.addcmul(kept, k.to(dtype).unsqueeze(-1), v.to(dtype).unsqueeze(-2))
    return (q.to(dtype).unsqueeze(-2) @ state).squeeze(-2).to(v.dtype), state
