"""The delta rule: a key's old value is taken out of the state before the new one is written.

``S_t = (I - β_t k_t k_tᵀ) S_{t-1} + β_t k_t v_tᵀ`` and ``y_t = S_tᵀ q_t``. Within a chunk the product of these
transitions has a short form (of WY): with ``T = (I + strictly lower part of diag(β) K Kᵀ)⁻¹ diag(β)``, ``U = T V`` and
``W = T K``, what is written is ``U - W S``, so that everything but the state at the start of each chunk is matrix
products over all chunks at once.

Stable as long as ``β |k|² <= 2``: normalise the keys.

Source: Parallelizing Linear Transformers with the Delta Rule over Sequence Length, arXiv 2406.06484.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from formwright.nn.functional.chunks import (
    accumulation_type,
    chunk_length,
    from_chunks,
    masked,
    over_segments,
    start_state,
    to_chunks,
)

#: Tokens of a chunk.
CHUNK = 64


def delta_rule(
    q: Float[Tensor, "batch time heads keys"],
    k: Float[Tensor, "batch time heads keys"],
    v: Float[Tensor, "batch time heads values"],
    beta: Float[Tensor, "batch time heads"],
    *,
    initial_state: Float[Tensor, "batch heads keys values"] | None = None,
    mask: Bool[Tensor, "batch time"] | None = None,
    chunk: int = CHUNK,
) -> tuple[Float[Tensor, "batch time heads values"], Float[Tensor, "batch heads keys values"]]:
    """``S_t = S_{t-1} + k_t (β_t (v_t - S_{t-1}ᵀ k_t))ᵀ``, ``y_t = S_tᵀ q_t``.

    Args:
        q: queries, scaled.
        k: keys, of unit length for stability.
        v: values.
        beta: how much of a key's value is replaced; 0 leaves the state as it is, 1 replaces it.
        initial_state: the final state of what came before.
        mask: false for tokens that change nothing.
        chunk: tokens of a chunk, a power of two.

    Returns:
        The outputs in the type of ``v`` and the final state in at least float32.
    """
    dtype = accumulation_type(q.dtype)
    k, v, beta = masked(k, mask), masked(v, mask), masked(beta, mask)
    batch, time, heads, keys = q.shape
    state = start_state(initial_state, q, (batch, heads, keys, v.shape[-1]), dtype)
    if time == 1:
        y, state = delta_rule_step(q[:, 0], k[:, 0], v[:, 0], beta[:, 0], state)
        return y[:, None], state
    length = chunk_length(time, chunk)

    def segment(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return _segment(q, k, v, beta, state, length, dtype)

    return over_segments(segment, (q, k, v, beta.unsqueeze(-1)), state, v.dtype)


def _segment(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, state: Tensor, length: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    time, heads = q.shape[1:3]
    q, k, v, beta = (to_chunks(x, length, dtype) for x in (q, k, v, beta))
    rows, chunks, _, values = v.shape
    q, k, v, beta = (x.flatten(0, 1) for x in (q, k, v, beta))
    k_beta = k * beta
    lower = torch.bmm(k_beta, k.transpose(1, 2))  # the solver reads the strictly lower part only
    written, read = torch.linalg.solve_triangular(
        lower, torch.cat([v * beta, k_beta], dim=-1), upper=False, unitriangular=True
    ).split([values, k.shape[-1]], dim=-1)
    k_transposed = k.transpose(1, 2)
    gain = torch.bmm(k_transposed, written).view(rows, chunks, *state.shape[2:])
    loss = torch.bmm(k_transposed, read).view(rows, chunks, k.shape[-1], k.shape[-1])
    states = [state.reshape(rows, *state.shape[2:])]
    for index in range(chunks):
        before = states[-1]
        states.append(torch.baddbmm(before + gain[:, index], loss[:, index], before, alpha=-1))
    start = torch.stack(states[:-1], dim=1).flatten(0, 1)
    written = torch.baddbmm(written, read, start, alpha=-1)
    scores = torch.bmm(q, k_transposed).tril_()
    y = torch.baddbmm(torch.bmm(q, start), scores, written).view(rows, chunks, length, values)
    return from_chunks(y, heads, time), states[-1].view(state.shape)


def delta_rule_step(
    q: Float[Tensor, "batch heads keys"],
    k: Float[Tensor, "batch heads keys"],
    v: Float[Tensor, "batch heads values"],
    beta: Float[Tensor, "batch heads"],
    state: Float[Tensor, "batch heads keys values"],
) -> tuple[Float[Tensor, "batch heads values"], Float[Tensor, "batch heads keys values"]]:
    """One token of :func:`delta_rule`."""
    dtype = state.dtype
    key = k.to(dtype).unsqueeze(-1)
    old = (key.transpose(-1, -2) @ state).squeeze(-2)
    written = (v.to(dtype) - old) * beta.to(dtype).unsqueeze(-1)
    state = torch.addcmul(state, key, written.unsqueeze(-2))
    return (q.to(dtype).unsqueeze(-2) @ state).squeeze(-2).to(v.dtype), state
