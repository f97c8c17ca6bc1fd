"""The delta rule: a key's old value is taken out of the state before the new one is written.

``S_t = (I - β_t k_t k_tᵀ) S_{t-1} + β_t k_t v_tᵀ`` and ``y_t = S_tᵀ q_t``. Within a chunk the product of these
transitions has a short form (of WY): with ``T = (I + strictly lower part of diag(β) K Kᵀ)⁻¹ diag(β)``, ``U = T V`` and
``W = T K``, what is written is ``U - W S``, so that everything but the state at the start of each chunk is matrix
products over all chunks at once.

Stable as long as ``β |k|² <= 2``: normalise the keys.

Source: Parallelizing Linear Transformers with the Delta Rule over Sequence Length, arXiv 2406.06484.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from formwright.nn import kernels
from formwright.nn.functional.chunks import (
    Cuts,
    accumulation_type,
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

#: Tokens of a chunk.
CHUNK = 32


@without_autocast
def delta_rule(
    q: Float[Tensor, "batch time heads keys"],
    k: Float[Tensor, "batch time heads keys"],
    v: Float[Tensor, "batch time heads values"],
    beta: Float[Tensor, "batch time heads"],
    *,
    initial_state: Float[Tensor, "batch heads keys values"] | None = None,
    mask: Bool[Tensor, "batch time"] | None = None,
    starts: Bool[Tensor, "batch time"] | None = None,
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
        starts: true where another sequence begins, which nothing before it reaches.
        chunk: tokens of a chunk, rounded down to a power of two.

    Returns:
        The outputs in the type of ``v`` and the final state in at least float32.

    Raises:
        UserError: ``chunk`` is less than 1.
    """
    dtype = accumulation_type(q.dtype)
    check_chunk(chunk)
    k, v, beta = masked(k, mask), masked(v, mask), masked(beta, mask)
    batch, time, heads, keys = q.shape
    state = start_state(initial_state, q, (batch, heads, keys, v.shape[-1]), dtype)
    if time == 0:
        return v, state
    if time == 1 and starts is None:
        y, state = delta_rule_step(q[:, 0], k[:, 0], v[:, 0], beta[:, 0], state)
        return y[:, None], state
    if kernels.takes(q) and keys <= kernels.MOST_KEYS and starts is None:
        from formwright.nn.kernels.delta_rule import delta_rule_by_kernel

        return delta_rule_by_kernel(q, k, v, beta, state)

    return _in_chunks(q, k, v, beta, state, starts, chunk)


def _shaped(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, state: Tensor, starts: Tensor | None, chunk: int
) -> tuple[Tensor, Tensor]:
    return v.new_empty(v.shape), state.new_empty(state.shape)


@one_operation("delta_rule", _shaped)
def _in_chunks(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, state: Tensor, starts: Tensor | None, chunk: int
) -> tuple[Tensor, Tensor]:
    length = chunk_length(q.shape[1], chunk)

    def segment(*operands: Tensor) -> tuple[Tensor, Tensor]:
        return _segment(*operands, length=length)

    return over_segments(segment, (q, k, v, beta.unsqueeze(-1)), state, v.dtype, length, starts)


def _segment(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, state: Tensor, starts: Tensor | None = None, *, length: int
) -> tuple[Tensor, Tensor]:
    time, heads = q.shape[1:3]
    dtype = state.dtype
    cuts = None if starts is None else Cuts.of(starts, heads, length, dtype)
    q, k, v, beta = (to_chunks(x, length, dtype) for x in (q, k, v, beta))
    rows = v.shape[0]
    flat_q, flat_k, flat_v, flat_beta = (x.flatten(0, 1) for x in (q, k, v, beta))
    old_by_new = torch.bmm(flat_k, flat_k.mT) * flat_beta
    transition = unit_lower_inverse(old_by_new if cuts is None else old_by_new * cuts.same) * flat_beta.mT
    new = torch.bmm(transition, flat_v).view(v.shape)
    # What is read from a state to be replaced, and what the queries read, are one product.
    readers = torch.cat([torch.bmm(transition, flat_k).view(k.shape), q], dim=2)
    current, written, read = state.reshape(rows, *state.shape[2:]), [], []
    add_products: Callable[..., Tensor] = torch.baddbmm
    if not torch.is_grad_enabled():  # no gradient needs earlier states
        current, add_products = current.clone(), Tensor.baddbmm_
    kept: Sequence[Tensor | None] = [None] * k.shape[1]
    if cuts is not None:
        readers = readers * cuts.first.view(*k.shape[:3], 1).repeat(1, 1, 2, 1)
        k = k * cuts.last.view(*k.shape[:3], 1)
        kept = cuts.whole.view(rows, k.shape[1], 1, 1).unbind(1)
    # Chunks are unbound rather than indexed: the gradient of an index is as large as all chunks, for each of them.
    for reader, wanted, key, factor in zip(readers.unbind(1), new.unbind(1), k.unbind(1), kept, strict=True):
        old, asked = torch.split(torch.bmm(reader, current), length, dim=1)
        written.append(wanted - old)
        read.append(asked)
        current = add_products(current if factor is None else current * factor, key.mT, written[-1])
    scores = torch.bmm(flat_q, flat_k.mT).tril_()
    if cuts is not None:
        scores = scores * cuts.same
    y = torch.baddbmm(torch.stack(read, dim=1).flatten(0, 1), scores, torch.stack(written, dim=1).flatten(0, 1))
    return from_chunks(y.view(v.shape), heads, time), current.view(state.shape)


#: Up to this size an inverse is a sum of powers; of more of them the largest would cancel in float32.
_BASE = 4


def unit_lower_inverse(lower: Float[Tensor, "batch size size"]) -> Float[Tensor, "batch size size"]:
    """``(I + L)⁻¹`` for the strictly lower part ``L`` of each matrix; its other entries are not read.

    On a CPU PyTorch solves triangular systems one after the other; here all are matrix products. Blocks on the
    diagonal come first: there ``L⁴ = 0``, so ``(I + L)⁻¹ = (I - L)(I + L²)``. Then two neighbours at a time, whose
    inverses are ``A`` and ``B`` and below the first of which ``C`` stands, make ``[[A, 0], [-B C A, B]]``. ``size`` is
    a power of two.
    """
    return _UnitLowerInverse.apply(lower)  # type: ignore[no-untyped-call]


class _UnitLowerInverse(torch.autograd.Function):
    @staticmethod
    def forward(lower: Tensor) -> Tensor:
        count, size, _ = lower.shape
        block = min(size, _BASE)
        power = _diagonal_blocks(lower, block).tril(-1).neg()
        inverse = power + torch.eye(block, dtype=lower.dtype, device=lower.device)
        for _ in range(block.bit_length() - 2):
            power = torch.bmm(power, power)
            inverse = torch.baddbmm(inverse, inverse, power)
        while block < size:
            first, second = inverse.view(-1, 2, block, block).unbind(1)
            below = _diagonal_blocks(lower, 2 * block)[:, block:, :block]
            inverse = lower.new_zeros(count * size // (2 * block), 2 * block, 2 * block)
            inverse[:, :block, :block] = first
            inverse[:, block:, block:] = second
            inverse[:, block:, :block] = torch.bmm(torch.bmm(second, below), first).neg_()
            block *= 2
        return inverse

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (inverse,) = ctx.saved_tensors
        return torch.bmm(torch.bmm(inverse.mT, gradient), inverse.mT).tril(-1).neg()

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int], lower: Tensor) -> tuple[Tensor, int]:
        many = lower.movedim(in_dims[0], 0)
        return unit_lower_inverse(many.flatten(0, 1)).view(many.shape), 0


def _diagonal_blocks(x: Tensor, block: int) -> Tensor:
    """The square blocks along the diagonal of each matrix, ``(batch * size // block, block, block)``."""
    count, size, _ = x.shape
    blocks = x.reshape(count, size // block, block, size // block, block).diagonal(dim1=1, dim2=3)
    return blocks.permute(0, 3, 1, 2).reshape(-1, block, block)


@without_autocast
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
