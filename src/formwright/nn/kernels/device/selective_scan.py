"""``h_t = exp(Δ_t A) h_{t-1} + Δ_t B_t x_t`` and ``y_t = sum over n of C_tn h_tn``.

Within a chunk all states are one scan; the chunks follow one another. A tile is ``(tokens, channels, states)``. Grids:
one program for each sample and each tile of channels.
"""

# ruff: noqa: N803  # A, B and C are the names of the paper; what is known when a kernel is compiled is in capitals
from __future__ import annotations

import triton
import triton.language as tl

from formwright.nn.kernels.device.tiles import load_state, load_tile, store_state, store_tile


@triton.jit
def follow(decay, written, next_decay, next_written):
    """Two stretches of tokens as one: what is left of a state after both, and what both have written."""
    return decay * next_decay, next_decay * written + next_written


@triton.jit
def scan_kernel(
    x, delta, A, B, C, initial, starts, final, y, time, channels, count,
    LENGTH: tl.constexpr, CHANNELS: tl.constexpr, STATES: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Fill ``y``, ``final`` and the state before each chunk, ``starts`` ``(batch, chunks, channels, states)``."""
    sample = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    places = tl.arange(0, STATES)
    index = tl.arange(0, LENGTH)
    chunks = tl.cdiv(time, LENGTH)
    starts += sample * chunks * channels * count
    rates = load_state(A, columns, channels, places, count).to(ACC)[None, :, :]
    state = load_state(initial + sample * channels * count, columns, channels, places, count)
    for chunk in range(chunks):
        store_state(starts, state, columns, channels, places, count)
        tokens = chunk * LENGTH + index
        step = load_tile(delta + sample * time * channels, tokens, time, channels, columns, channels, ACC)
        given = load_tile(x + sample * time * channels, tokens, time, channels, columns, channels, ACC)
        spread = load_tile(B + sample * time * count, tokens, time, count, places, count, ACC)
        read = load_tile(C + sample * time * count, tokens, time, count, places, count, ACC)
        decay = tl.exp(step[:, :, None] * rates)
        written = (step * given)[:, :, None] * spread[:, None, :]
        left, states = tl.associative_scan((decay, written), 0, follow)
        states += left * state[None, :, :]
        outputs = tl.sum(states * read[:, None, :], 2)
        store_tile(y + sample * time * channels, outputs, tokens, time, channels, columns, channels)
        state = tl.sum(tl.where(index[:, None, None] == LENGTH - 1, states, 0.0), 0)
        starts += channels * count
    store_state(final + sample * channels * count, state, columns, channels, places, count)


@triton.jit
def gradients_kernel(
    x, delta, A, B, C, starts, of_y, of_final, of_x, of_delta, of_A, of_B, of_C, of_initial,
    batch, time, channels, count,
    LENGTH: tl.constexpr, CHANNELS: tl.constexpr, STATES: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Fill the gradients of all operands, from the last chunk to the first.

    That of ``A`` has a part for each sample, ``(batch, channels, states)``, those of ``B`` and ``C`` for each tile of
    channels, ``(tiles, batch, time, states)``; they are to be summed.
    """
    sample = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    places = tl.arange(0, STATES)
    index = tl.arange(0, LENGTH)
    chunks = tl.cdiv(time, LENGTH)
    wide, narrow = sample * time * channels, sample * time * count
    part = (tl.program_id(1) * batch + sample) * time * count
    starts += (sample + 1) * chunks * channels * count
    rates = load_state(A, columns, channels, places, count).to(ACC)[None, :, :]
    of_rates = tl.zeros([CHANNELS, STATES], ACC)
    of_state = load_state(of_final + sample * channels * count, columns, channels, places, count)
    for back in range(chunks):
        starts -= channels * count
        start = load_state(starts, columns, channels, places, count)
        first = (chunks - 1 - back) * LENGTH
        tokens = first + index
        step = load_tile(delta + wide, tokens, time, channels, columns, channels, ACC)
        given = load_tile(x + wide, tokens, time, channels, columns, channels, ACC)
        spread = load_tile(B + narrow, tokens, time, count, places, count, ACC)
        read = load_tile(C + narrow, tokens, time, count, places, count, ACC)
        output = load_tile(of_y + wide, tokens, time, channels, columns, channels, ACC)
        decay = tl.exp(step[:, :, None] * rates)

        # The state before each token: a scan that lags a token behind, from the state before the chunk.
        lagging = tl.where(index > 0, tokens - 1, time)
        step_before = load_tile(delta + wide, lagging, time, channels, columns, channels, ACC)
        given_before = load_tile(x + wide, lagging, time, channels, columns, channels, ACC)
        spread_before = load_tile(B + narrow, lagging, time, count, places, count, ACC)
        written_before = (step_before * given_before)[:, :, None] * spread_before[:, None, :]
        left, previous = tl.associative_scan((tl.exp(step_before[:, :, None] * rates), written_before), 0, follow)
        previous += left * start[None, :, :]
        states = decay * previous + (step * given)[:, :, None] * spread[:, None, :]

        # The gradient of each state: what its own output gives, and what the next state has of it.
        end = tl.minimum(first + LENGTH, time)
        step_after = load_tile(delta + wide, tokens + 1, end, channels, columns, channels, ACC)
        read_here = output[:, :, None] * read[:, None, :]
        until, gradient = tl.associative_scan(
            (tl.exp(step_after[:, :, None] * rates), read_here), 0, follow, reverse=True
        )
        gradient += until * of_state[None, :, :]

        of_written = tl.sum(gradient * spread[:, None, :], 2)
        kept = gradient * decay
        of_exponent = kept * previous
        change = tl.sum(of_exponent * rates, 2) + of_written * given
        store_tile(of_x + wide, of_written * step, tokens, time, channels, columns, channels)
        store_tile(of_delta + wide, change, tokens, time, channels, columns, channels)
        of_spread = tl.sum(gradient * (step * given)[:, :, None], 1)
        store_tile(of_B + part, of_spread, tokens, time, count, places, count)
        store_tile(of_C + part, tl.sum(states * output[:, :, None], 1), tokens, time, count, places, count)
        of_rates += tl.sum(of_exponent * step[:, :, None], 0)
        of_state = tl.sum(tl.where(index[:, None, None] == 0, kept, 0.0), 0)
    store_state(of_A + sample * channels * count, of_rates, columns, channels, places, count)
    store_state(of_initial + sample * channels * count, of_state, columns, channels, places, count)
