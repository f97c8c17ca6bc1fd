"""The gradients of the recurrence: those of the states between the chunks, last one first, then all others.

Let ``P_ts`` be what a channel of ``k_s`` gives to ``y_t`` times the gradient there. The gradient of a logarithm of a
decay at ``r`` is the sum of ``P_ts`` over all ``s < r <= t``: the channel passes ``r`` on its way. It is summed up
without the terms that cancel, ``s = t`` first of all, so that where little is left after a token, the little is right;
where a decay belongs to a whole head, over exactly these pairs.
Grids and names as for the forward pass; ``ends`` has the gradient of the state after each chunk.
"""

# ruff: noqa: N803  # what is known when a kernel is compiled is written in capitals
from __future__ import annotations

import triton
import triton.language as tl

from formwright.nn.kernels.device.tiles import (
    CHANNELS,
    HEADS,
    NONE,
    across,
    before,
    between,
    diagonal,
    dot,
    from_border,
    is_late,
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
def end_gradients_kernel(
    q, logs, of_y, of_final, ends, of_initial, time, heads, groups, keys, values,
    DECAY: tl.constexpr, LENGTH: tl.constexpr, KEYS: tl.constexpr, VALUES: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Fill ``ends`` and ``of_initial``. Grid: rows, tiles of keys, tiles of values."""
    row = tl.program_id(0).to(tl.int64)
    batch, head = row // heads, row % heads
    q += (batch * time * groups + head // (heads // groups)) * keys
    of_y += (batch * time * heads + head) * values
    logs += (batch * time * heads + head) * (keys if DECAY == CHANNELS else 1)
    key_columns = tl.program_id(1) * KEYS + tl.arange(0, KEYS)
    value_columns = tl.program_id(2) * VALUES + tl.arange(0, VALUES)
    chunks = tl.cdiv(time, LENGTH)
    ends += (row + 1) * chunks * keys * values
    gradient = load_state(of_final + row * keys * values, key_columns, keys, value_columns, values)
    for back in range(chunks):
        ends -= keys * values
        store_state(ends, gradient, key_columns, keys, value_columns, values)
        tokens = (chunks - 1 - back) * LENGTH + tl.arange(0, LENGTH)
        decay = load_logs(logs, tokens, time, heads, key_columns, keys, DECAY, LENGTH, ACC)
        query = load_tile(q, tokens, time, groups * keys, key_columns, keys, ACC) * since_start(decay)
        output = load_tile(of_y, tokens, time, heads * values, value_columns, values, ACC)
        gradient = gradient * tl.exp(tl.sum(decay, 0))[:, None] + dot(tl.trans(query), output)
    store_state(of_initial + row * keys * values, gradient, key_columns, keys, value_columns, values)


@triton.jit
def value_gradients_kernel(
    q, k, logs, of_y, ends, of_v, time, heads, groups, keys, values,
    DECAY: tl.constexpr, LENGTH: tl.constexpr, LEVELS: tl.constexpr, KEYS: tl.constexpr, VALUES: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """Fill ``of_v``. Grid: rows and chunks, tiles of values."""
    chunks = tl.cdiv(time, LENGTH)
    row, chunk = tl.program_id(0).to(tl.int64) // chunks, tl.program_id(0) % chunks
    batch, head = row // heads, row % heads
    group = (batch * time * groups + head // (heads // groups)) * keys
    q += group
    k += group
    own = batch * time * heads + head
    of_y += own * values
    of_v += own * values
    logs += own * (keys if DECAY == CHANNELS else 1)
    ends += (row * chunks + chunk) * keys * values
    tokens = chunk * LENGTH + tl.arange(0, LENGTH)
    end = tl.minimum(chunk * LENGTH + LENGTH, time)
    value_columns = tl.program_id(1) * VALUES + tl.arange(0, VALUES)
    weights = tl.zeros([LENGTH, LENGTH], ACC)
    gradient = tl.zeros([LENGTH, VALUES], ACC)
    for first in range(0, keys, KEYS):
        key_columns = first + tl.arange(0, KEYS)
        query = load_tile(q, tokens, time, groups * keys, key_columns, keys, ACC)
        key = load_tile(k, tokens, time, groups * keys, key_columns, keys, ACC)
        decay = load_logs(logs, tokens, time, heads, key_columns, keys, DECAY, LENGTH, ACC)
        later = load_logs(logs, tokens + 1, end, heads, key_columns, keys, DECAY, LENGTH, ACC)
        weights += raw_weights(query, key, decay, DECAY, LENGTH, LEVELS, ACC)
        of_state = load_state(ends, key_columns, keys, value_columns, values)
        gradient += dot(key * until_end(later), of_state)
    decay = load_logs(logs, tokens, time, heads, tl.arange(0, KEYS), keys, DECAY, LENGTH, ACC)
    output = load_tile(of_y, tokens, time, heads * values, value_columns, values, ACC)
    gradient += dot(tl.trans(weigh(weights, decay, DECAY, LENGTH, ACC)), output)
    store_tile(of_v, gradient, tokens, time, heads * values, value_columns, values)


@triton.jit
def key_gradients_kernel(
    q, k, v, logs, of_y, starts, ends, of_q, of_k, of_logs, rows, time, heads, groups, keys, values,
    DECAY: tl.constexpr, LENGTH: tl.constexpr, LEVELS: tl.constexpr, KEYS: tl.constexpr, VALUES: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """Fill ``of_q``, ``of_k`` and ``of_logs``, each head's own. Grid: rows and chunks, tiles of keys.

    ``of_logs`` of heads has a part for each tile of keys, ``(tiles, batch, time, heads)``, to be summed.
    """
    chunks = tl.cdiv(time, LENGTH)
    row, chunk = tl.program_id(0).to(tl.int64) // chunks, tl.program_id(0) % chunks
    batch, head = row // heads, row % heads
    group = (batch * time * groups + head // (heads // groups)) * keys
    q += group
    k += group
    own = batch * time * heads + head
    v += own * values
    of_y += own * values
    of_q += own * keys
    of_k += own * keys
    logs += own * (keys if DECAY == CHANNELS else 1)
    starts += (row * (chunks + 1) + chunk) * keys * values
    ends += (row * chunks + chunk) * keys * values
    tokens = chunk * LENGTH + tl.arange(0, LENGTH)
    end = tl.minimum(chunk * LENGTH + LENGTH, time)
    key_columns = tl.program_id(1) * KEYS + tl.arange(0, KEYS)

    of_weights = tl.zeros([LENGTH, LENGTH], ACC)
    of_query = tl.zeros([LENGTH, KEYS], ACC)
    of_key = tl.zeros([LENGTH, KEYS], ACC)
    through = tl.zeros([KEYS], ACC)
    for first in range(0, values, VALUES):
        value_columns = first + tl.arange(0, VALUES)
        value = load_tile(v, tokens, time, heads * values, value_columns, values, ACC)
        output = load_tile(of_y, tokens, time, heads * values, value_columns, values, ACC)
        state = load_state(starts, key_columns, keys, value_columns, values)
        of_state = load_state(ends, key_columns, keys, value_columns, values)
        of_weights += dot(output, tl.trans(value))
        of_query += dot(output, tl.trans(state))
        of_key += dot(value, tl.trans(of_state))
        through += tl.sum(state * of_state, 1)

    query = load_tile(q, tokens, time, groups * keys, key_columns, keys, ACC)
    key = load_tile(k, tokens, time, groups * keys, key_columns, keys, ACC)
    decay = load_logs(logs, tokens, time, heads, key_columns, keys, DECAY, LENGTH, ACC)
    later = load_logs(logs, tokens + 1, end, heads, key_columns, keys, DECAY, LENGTH, ACC)
    of_query *= since_start(decay)
    of_key *= until_end(later)
    left = key * of_key
    undecayed = diagonal(of_weights, LENGTH)
    of_weights = before(of_weights, LENGTH)
    inner_query = tl.zeros([LENGTH, KEYS], ACC)
    inner_key = tl.zeros([LENGTH, KEYS], ACC)
    if DECAY == CHANNELS:
        for level in tl.static_range(LEVELS):
            late = is_late(level, LENGTH)
            fade = from_border(decay, level, LENGTH, ACC)
            pairs = across(of_weights, level, LENGTH)
            inner_query += tl.where(late, fade * dot(pairs, tl.where(late, 0.0, key * fade)), 0.0)
            inner_key += tl.where(late, 0.0, fade * dot(tl.trans(pairs), tl.where(late, query * fade, 0.0)))
    else:
        if DECAY == HEADS:
            of_weights *= between(decay, LENGTH, ACC)
        inner_query += dot(of_weights, key)
        inner_key += dot(tl.trans(of_weights), query)
    store_tile(of_q, of_query + inner_query + undecayed * key, tokens, time, heads * keys, key_columns, keys)
    store_tile(of_k, of_key + inner_key + undecayed * query, tokens, time, heads * keys, key_columns, keys)

    if DECAY != NONE:
        kept = through[None, :] * tl.exp(tl.sum(decay, 0))[None, :]
        index = tl.arange(0, LENGTH)
        from_here = (index[:, None] <= index[None, :]).to(ACC)
        earlier = (index[:, None] > index[None, :]).to(ACC)
        if DECAY == CHANNELS:
            of_logs += own * keys
            passed = query * (of_query + inner_query) - key * inner_key
            change = dot(from_here, passed) + dot(earlier, left) + kept
            store_tile(of_logs, change, tokens, time, heads * keys, key_columns, keys)
        else:
            of_logs += tl.program_id(1).to(tl.int64) * (rows * time) + own
            passed = dot(earlier, tl.trans(of_weights * dot(query, tl.trans(key))))
            passed += tl.sum(query * of_query, 1)[None, :]
            change = tl.sum(from_here * passed + earlier * tl.sum(left, 1)[None, :], 1)
            change += tl.sum(tl.sum(kept, 1), 0)
            tl.store(of_logs + tokens.to(tl.int64) * heads, change, mask=tokens < time)
