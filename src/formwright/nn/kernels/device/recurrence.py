"""``S_t = diag(a_t) S_{t-1} + k_t v_tᵀ`` and ``y_t = S_tᵀ q_t`` in chunks: the states between them, then the outputs.

Grids: one program for each row of ``batch x heads`` (and, where they do not wait for one another, each chunk), each
tile of key channels and each tile of value channels, as far as these are independent. ``q`` and ``k`` may belong to
groups of heads. ``starts`` is the state before each chunk and after the last, ``(rows, chunks + 1, keys, values)``.
"""

# ruff: noqa: N803  # what is known when a kernel is compiled is written in capitals
from __future__ import annotations

import triton
import triton.language as tl

from formwright.nn.kernels.device.tiles import (
    CHANNELS,
    dot,
    load_logs,
    load_state,
    load_tile,
    raw_weights,
    since_start,
    store_state,
    store_tile,
    until_end,
    weigh,
)


@triton.jit
def states_kernel(
    k, v, logs, initial, starts, time, heads, groups, keys, values,
    DECAY: tl.constexpr, LENGTH: tl.constexpr, KEYS: tl.constexpr, VALUES: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Fill ``starts``. Grid: rows, tiles of keys, tiles of values."""
    row = tl.program_id(0).to(tl.int64)
    batch, head = row // heads, row % heads
    k += (batch * time * groups + head // (heads // groups)) * keys
    v += (batch * time * heads + head) * values
    logs += (batch * time * heads + head) * (keys if DECAY == CHANNELS else 1)
    key_columns = tl.program_id(1) * KEYS + tl.arange(0, KEYS)
    value_columns = tl.program_id(2) * VALUES + tl.arange(0, VALUES)
    chunks = tl.cdiv(time, LENGTH)
    starts += row * (chunks + 1) * keys * values
    state = load_state(initial + row * keys * values, key_columns, keys, value_columns, values)
    for chunk in range(chunks):
        store_state(starts, state, key_columns, keys, value_columns, values)
        tokens = chunk * LENGTH + tl.arange(0, LENGTH)
        end = tl.minimum(chunk * LENGTH + LENGTH, time)
        decay = load_logs(logs, tokens, time, heads, key_columns, keys, DECAY, LENGTH, ACC)
        later = load_logs(logs, tokens + 1, end, heads, key_columns, keys, DECAY, LENGTH, ACC)
        key = load_tile(k, tokens, time, groups * keys, key_columns, keys, ACC) * until_end(later)
        value = load_tile(v, tokens, time, heads * values, value_columns, values, ACC)
        state = state * tl.exp(tl.sum(decay, 0))[:, None] + dot(tl.trans(key), value)
        starts += keys * values
    store_state(starts, state, key_columns, keys, value_columns, values)


@triton.jit
def outputs_kernel(
    q, k, v, logs, starts, y, time, heads, groups, keys, values,
    DECAY: tl.constexpr, LENGTH: tl.constexpr, LEVELS: tl.constexpr, KEYS: tl.constexpr, VALUES: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """Fill ``y`` from the states before each chunk. Grid: rows and chunks, tiles of values."""
    chunks = tl.cdiv(time, LENGTH)
    row, chunk = tl.program_id(0).to(tl.int64) // chunks, tl.program_id(0) % chunks
    batch, head = row // heads, row % heads
    group = (batch * time * groups + head // (heads // groups)) * keys
    q += group
    k += group
    own = batch * time * heads + head
    v += own * values
    y += own * values
    logs += own * (keys if DECAY == CHANNELS else 1)
    starts += (row * (chunks + 1) + chunk) * keys * values
    tokens = chunk * LENGTH + tl.arange(0, LENGTH)
    value_columns = tl.program_id(1) * VALUES + tl.arange(0, VALUES)
    weights = tl.zeros([LENGTH, LENGTH], ACC)
    read = tl.zeros([LENGTH, VALUES], ACC)
    for first in range(0, keys, KEYS):
        key_columns = first + tl.arange(0, KEYS)
        query = load_tile(q, tokens, time, groups * keys, key_columns, keys, ACC)
        key = load_tile(k, tokens, time, groups * keys, key_columns, keys, ACC)
        decay = load_logs(logs, tokens, time, heads, key_columns, keys, DECAY, LENGTH, ACC)
        weights += raw_weights(query, key, decay, DECAY, LENGTH, LEVELS, ACC)
        state = load_state(starts, key_columns, keys, value_columns, values)
        read += dot(query * since_start(decay), state)
    decay = load_logs(logs, tokens, time, heads, tl.arange(0, KEYS), keys, DECAY, LENGTH, ACC)
    value = load_tile(v, tokens, time, heads * values, value_columns, values, ACC)
    read += dot(weigh(weights, decay, DECAY, LENGTH, ACC), value)
    store_tile(y, read, tokens, time, heads * values, value_columns, values)
