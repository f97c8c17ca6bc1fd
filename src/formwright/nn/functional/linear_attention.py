"""Attention without softmax: a matrix of sums instead of a cache that grows.

``S_t = S_{t-1} + k_t v_tᵀ`` and ``y_t = S_tᵀ q_t``. Whoever wants the weights of a token to add up to one asks for
``normalize``: the state then has one more column, the sum of the keys, and ``y_t`` is divided by ``q_t · sum of k``.

Source: Transformers are RNNs: Fast Autoregressive Transformers with Linear Attention, arXiv 2006.16236.
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
    from_chunks,
    masked,
    over_segments,
    start_state,
    to_chunks,
    without_autocast,
)
from formwright.nn.functional.one_operation import one_operation

#: Tokens of a chunk: within it the cost is quadratic.
CHUNK = 64
#: Added to the sum of the weights, which may be zero where nothing was seen.
NORMALIZER_EPS = 1e-10


@without_autocast
def causal_linear_attention(
    q: Float[Tensor, "batch time heads keys"],
    k: Float[Tensor, "batch time heads keys"],
    v: Float[Tensor, "batch time heads values"],
    *,
    initial_state: Float[Tensor, "batch heads keys columns"] | None = None,
    mask: Bool[Tensor, "batch time"] | None = None,
    starts: Bool[Tensor, "batch time"] | None = None,
    normalize: bool = False,
    chunk: int = CHUNK,
) -> tuple[Float[Tensor, "batch time heads values"], Float[Tensor, "batch heads keys columns"]]:
    """``y_t = sum over s <= t of (q_t · k_s) v_s``, over the sum of the weights if ``normalize``.

    Args:
        q: queries, after feature map and scale.
        k: keys, after the feature map.
        v: values.
        initial_state: the final state of what came before; ``columns`` are ``values``, and one more if ``normalize``.
        mask: false for tokens that change nothing.
        starts: true where another sequence begins, which nothing before it reaches.
        normalize: divide by the sum of the weights.
        chunk: tokens of a chunk, rounded down to a power of two.

    Returns:
        The outputs in the type of ``v`` and the final state in at least float32.

    Raises:
        UserError: ``chunk`` is less than 1.
    """
    dtype = accumulation_type(q.dtype)
    check_chunk(chunk)
    k = masked(k, mask)
    values = F.pad(masked(v, mask), (0, 1), value=1.0) if normalize else masked(v, mask)
    batch, time, heads, keys = q.shape
    state = start_state(initial_state, q, (batch, heads, keys, values.shape[-1]), dtype)
    if time == 0:
        return v, state
    if time == 1 and starts is None:
        y, state = linear_attention_step(q[:, 0], k[:, 0], v[:, 0], state, normalize=normalize)
        return y[:, None], state
    if kernels.takes(q) and starts is None:
        from formwright.nn.kernels.recurrence import decayed_recurrence

        y, state = decayed_recurrence(q, k, values.to(dtype), None, state)
        return (_normalized(y) if normalize else y).to(v.dtype), state

    return _in_chunks(q, k, values, state, starts, normalize, chunk)


def _shaped(
    q: Tensor, k: Tensor, v: Tensor, state: Tensor, starts: Tensor | None, normalize: bool, chunk: int
) -> tuple[Tensor, Tensor]:
    return v.new_empty(*v.shape[:3], v.shape[3] - normalize), state.new_empty(state.shape)


@one_operation("linear_attention", _shaped)
def _in_chunks(
    q: Tensor, k: Tensor, v: Tensor, state: Tensor, starts: Tensor | None, normalize: bool, chunk: int
) -> tuple[Tensor, Tensor]:
    length = chunk_length(q.shape[1], chunk)

    def segment(*operands: Tensor) -> tuple[Tensor, Tensor]:
        y, state = _segment(*operands, length=length)
        return (_normalized(y) if normalize else y), state

    return over_segments(segment, (q, k, v), state, v.dtype, length, starts)


def _segment(
    q: Tensor, k: Tensor, v: Tensor, state: Tensor, starts: Tensor | None = None, *, length: int
) -> tuple[Tensor, Tensor]:
    time, heads = q.shape[1:3]
    dtype = state.dtype
    q, k, v = (to_chunks(x, length, dtype) for x in (q, k, v))
    rows, chunks, columns = q.shape[0], q.shape[1], v.shape[-1]
    first = state.reshape(rows, *state.shape[2:])
    flat_q, flat_k, flat_v = (x.flatten(0, 1) for x in (q, k, v))
    scores = torch.bmm(flat_q, flat_k.transpose(1, 2)).tril_()
    if starts is None:
        sums = torch.cat([first.unsqueeze(1), k.transpose(-1, -2) @ v], dim=1).cumsum(1)
        before, last = sums[:, :-1], sums[:, -1]
    else:
        cuts = Cuts.of(starts, heads, length, dtype)
        added = torch.bmm((flat_k * cuts.last).mT, flat_v).view(rows, chunks, *state.shape[2:])
        before, last = chained(first, added, cuts.whole.view(rows, chunks, 1, 1))
        flat_q, scores = flat_q * cuts.first, scores * cuts.same
    y = torch.baddbmm(torch.bmm(flat_q, before.flatten(0, 1)), scores, flat_v)
    y = y.view(rows, chunks, length, columns)
    return from_chunks(y, heads, time), last.view(state.shape)


def _normalized(y: Tensor) -> Tensor:
    return y[..., :-1] / (y[..., -1:] + NORMALIZER_EPS)


@without_autocast
def linear_attention_step(
    q: Float[Tensor, "batch heads keys"],
    k: Float[Tensor, "batch heads keys"],
    v: Float[Tensor, "batch heads values"],
    state: Float[Tensor, "batch heads keys columns"],
    *,
    normalize: bool = False,
) -> tuple[Float[Tensor, "batch heads values"], Float[Tensor, "batch heads keys columns"]]:
    """One token of :func:`causal_linear_attention`."""
    dtype = state.dtype
    values = F.pad(v, (0, 1), value=1.0) if normalize else v
    state = torch.addcmul(state, k.to(dtype).unsqueeze(-1), values.to(dtype).unsqueeze(-2))
    y = (q.to(dtype).unsqueeze(-2) @ state).squeeze(-2)
    return (_normalized(y) if normalize else y).to(v.dtype), state


@without_autocast
def linear_attention(
    q: Float[Tensor, "batch time heads keys"],
    k: Float[Tensor, "batch time heads keys"],
    v: Float[Tensor, "batch time heads values"],
    *,
    mask: Bool[Tensor, "batch time"] | None = None,
    normalize: bool = False,
) -> Float[Tensor, "batch time heads values"]:
    """``y_t = sum over all s of (q_t · k_s) v_s``, over the sum of the weights if ``normalize``; no order of tokens.

    Arguments as for :func:`causal_linear_attention`.
    """
    dtype = accumulation_type(q.dtype)
    k, values = masked(k, mask).to(dtype), masked(v, mask).to(dtype)
    if normalize:
        values = F.pad(values, (0, 1), value=1.0)
    sums = k.permute(0, 2, 3, 1) @ values.transpose(1, 2)
    y = (q.to(dtype).transpose(1, 2) @ sums).transpose(1, 2)
    return (_normalized(y) if normalize else y).to(v.dtype)
