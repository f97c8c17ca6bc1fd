"""What the delta rule has beyond the recurrence without decay: its values depend on the state that they change.

``S_t = S_{t-1} + k_t n_tᵀ`` where what is new is ``n_t = β_t (v_t - S_{t-1}ᵀ k_t)``. Within a chunk ``n = U - W S``
with the state ``S`` before it, ``U = T V``, ``W = T K``, ``T = (1 + L)⁻¹ diag(β)`` and ``L`` the strictly lower part of
``diag(β) K Kᵀ``. Once ``n`` is known, the rest is the recurrence. Here a tile holds all key channels, because the state
before a chunk is read with all of them. Sequences are ``(batch, time, heads, channels)``.
"""

# ruff: noqa: N803  # what is known when a kernel is compiled is written in capitals
from __future__ import annotations

import triton
import triton.language as tl

from formwright.nn.kernels.device.tiles import (
    across,
    before,
    dot,
    load_state,
    load_tile,
    on_diagonal,
    store_state,
    store_tile,
    up_to,
)


@triton.jit
def load_beta(pointer, tokens, time, heads, ACC: tl.constexpr):
    return tl.load(pointer + tokens.to(tl.int64) * heads, mask=tokens < time, other=0.0).to(ACC)


@triton.jit
def unit_lower_inverse(lower, LENGTH: tl.constexpr, LEVELS: tl.constexpr, ACC: tl.constexpr):
    """``(1 + L)⁻¹`` of the strictly lower part of ``lower``.

    Two neighbouring blocks on the diagonal, inverted already as ``A`` and ``B``, and ``C`` below the first make
    ``[[A, 0], [-B C A, B]]``, for all neighbours in one product.
    """
    inverse = on_diagonal(tl.full([LENGTH], 1.0, ACC), LENGTH)
    for level in tl.static_range(LEVELS):
        inverse -= dot(dot(inverse, across(lower, level, LENGTH)), inverse)
    return inverse


@triton.jit
def prepare_kernel(
    k, v, beta, inverses, readers, unread, time, heads, keys, values,
    LENGTH: tl.constexpr, LEVELS: tl.constexpr, KEYS: tl.constexpr, VALUES: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Fill ``inverses`` ``(rows, chunks, length, length)``, ``readers`` with ``W`` and ``unread`` with ``U``.

    Grid: rows and chunks.
    """
    chunks = tl.cdiv(time, LENGTH)
    program = tl.program_id(0).to(tl.int64)
    row, chunk = program // chunks, tl.program_id(0) % chunks
    own = row // heads * time * heads + row % heads
    tokens = chunk * LENGTH + tl.arange(0, LENGTH)
    key_columns = tl.arange(0, KEYS)
    key = load_tile(k + own * keys, tokens, time, heads * keys, key_columns, keys, ACC)
    weight = load_beta(beta + own, tokens, time, heads, ACC)
    inverse = unit_lower_inverse(dot(key, tl.trans(key)) * weight[:, None], LENGTH, LEVELS, ACC)
    index = tl.arange(0, LENGTH)
    tl.store(inverses + program * LENGTH * LENGTH + index[:, None] * LENGTH + index[None, :], inverse)
    transition = inverse * weight[None, :]
    store_tile(readers + own * keys, dot(transition, key), tokens, time, heads * keys, key_columns, keys)
    for first in range(0, values, VALUES):
        columns = first + tl.arange(0, VALUES)
        value = load_tile(v + own * values, tokens, time, heads * values, columns, values, ACC)
        store_tile(unread + own * values, dot(transition, value), tokens, time, heads * values, columns, values)


@triton.jit
def states_kernel(
    k, readers, unread, initial, starts, new, time, heads, keys, values,
    LENGTH: tl.constexpr, KEYS: tl.constexpr, VALUES: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Fill ``starts`` and ``new``. Grid: rows, tiles of values."""
    row = tl.program_id(0).to(tl.int64)
    own = row // heads * time * heads + row % heads
    key_columns = tl.arange(0, KEYS)
    value_columns = tl.program_id(1) * VALUES + tl.arange(0, VALUES)
    chunks = tl.cdiv(time, LENGTH)
    starts += row * (chunks + 1) * keys * values
    state = load_state(initial + row * keys * values, key_columns, keys, value_columns, values)
    for chunk in range(chunks):
        store_state(starts, state, key_columns, keys, value_columns, values)
        tokens = chunk * LENGTH + tl.arange(0, LENGTH)
        key = load_tile(k + own * keys, tokens, time, heads * keys, key_columns, keys, ACC)
        reader = load_tile(readers + own * keys, tokens, time, heads * keys, key_columns, keys, ACC)
        written = load_tile(unread + own * values, tokens, time, heads * values, value_columns, values, ACC)
        written -= dot(reader, state)
        store_tile(new + own * values, written, tokens, time, heads * values, value_columns, values)
        state += dot(tl.trans(key), written)
        starts += keys * values
    store_state(starts, state, key_columns, keys, value_columns, values)


@triton.jit
def end_gradients_kernel(
    q, k, readers, of_y, of_final, ends, of_new, of_initial, time, heads, keys, values,
    LENGTH: tl.constexpr, KEYS: tl.constexpr, VALUES: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Fill ``ends``, the gradients of the state after each chunk, ``of_new`` and ``of_initial``.

    Grid: rows, tiles of values.
    """
    row = tl.program_id(0).to(tl.int64)
    own = row // heads * time * heads + row % heads
    key_columns = tl.arange(0, KEYS)
    value_columns = tl.program_id(1) * VALUES + tl.arange(0, VALUES)
    chunks = tl.cdiv(time, LENGTH)
    ends += (row + 1) * chunks * keys * values
    gradient = load_state(of_final + row * keys * values, key_columns, keys, value_columns, values)
    for back in range(chunks):
        ends -= keys * values
        store_state(ends, gradient, key_columns, keys, value_columns, values)
        tokens = (chunks - 1 - back) * LENGTH + tl.arange(0, LENGTH)
        query = load_tile(q + own * keys, tokens, time, heads * keys, key_columns, keys, ACC)
        key = load_tile(k + own * keys, tokens, time, heads * keys, key_columns, keys, ACC)
        reader = load_tile(readers + own * keys, tokens, time, heads * keys, key_columns, keys, ACC)
        output = load_tile(of_y + own * values, tokens, time, heads * values, value_columns, values, ACC)
        weights = up_to(dot(query, tl.trans(key)), LENGTH)
        written = dot(tl.trans(weights), output) + dot(key, gradient)
        store_tile(of_new + own * values, written, tokens, time, heads * values, value_columns, values)
        gradient += dot(tl.trans(query), output) - dot(tl.trans(reader), written)
    store_state(of_initial + row * keys * values, gradient, key_columns, keys, value_columns, values)


@triton.jit
def transition_gradients_kernel(
    k, v, beta, inverses, of_new, starts, of_k, of_v, of_beta, time, heads, keys, values,
    LENGTH: tl.constexpr, KEYS: tl.constexpr, VALUES: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Fill ``of_v`` and ``of_beta``, and add to ``of_k`` what comes through ``W`` and ``T``. Grid: rows and chunks."""
    chunks = tl.cdiv(time, LENGTH)
    program = tl.program_id(0).to(tl.int64)
    row, chunk = program // chunks, tl.program_id(0) % chunks
    own = row // heads * time * heads + row % heads
    starts += (row * (chunks + 1) + chunk) * keys * values
    tokens = chunk * LENGTH + tl.arange(0, LENGTH)
    key_columns = tl.arange(0, KEYS)
    index = tl.arange(0, LENGTH)
    key = load_tile(k + own * keys, tokens, time, heads * keys, key_columns, keys, ACC)
    weight = load_beta(beta + own, tokens, time, heads, ACC)
    inverse = tl.load(inverses + program * LENGTH * LENGTH + index[:, None] * LENGTH + index[None, :])
    transition = inverse * weight[None, :]
    of_readers = tl.zeros([LENGTH, KEYS], ACC)
    of_transition = tl.zeros([LENGTH, LENGTH], ACC)
    for first in range(0, values, VALUES):
        columns = first + tl.arange(0, VALUES)
        written = load_tile(of_new + own * values, tokens, time, heads * values, columns, values, ACC)
        value = load_tile(v + own * values, tokens, time, heads * values, columns, values, ACC)
        state = load_state(starts, key_columns, keys, columns, values)
        of_transition += dot(written, tl.trans(value))
        of_readers -= dot(written, tl.trans(state))
        of_value = dot(tl.trans(transition), written)
        store_tile(of_v + own * values, of_value, tokens, time, heads * values, columns, values)
    of_transition += dot(of_readers, tl.trans(key))
    inverted = tl.trans(inverse)
    of_lower = -before(dot(dot(inverted, of_transition * weight[None, :]), inverted), LENGTH)
    of_weight = tl.sum(inverse * of_transition, 0) + tl.sum(of_lower * dot(key, tl.trans(key)), 1)
    of_products = of_lower * weight[:, None]
    gradient = load_tile(of_k + own * keys, tokens, time, heads * keys, key_columns, keys, ACC)
    gradient += dot(tl.trans(transition), of_readers) + dot(of_products + tl.trans(of_products), key)
    store_tile(of_k + own * keys, gradient, tokens, time, heads * keys, key_columns, keys)
    tl.store(of_beta + own + tokens.to(tl.int64) * heads, of_weight.to(of_beta.dtype.element_ty), mask=tokens < time)
