"""What the kernels share: tiles of tokens by channels, decays, and the weights of a chunk's tokens for one another.

A tile has a chunk of tokens as its rows; what lies outside of the sequence or of the channels is zero. Logarithms of
decays are a tile too, with one column where a decay belongs to a whole head.
"""

# ruff: noqa: N803  # what is known when a kernel is compiled is written in capitals
from __future__ import annotations

import triton
import triton.language as tl

#: What forgets at a rate of its own: nothing, each head, each key channel.
NONE: tl.constexpr = tl.constexpr(0)
HEADS: tl.constexpr = tl.constexpr(1)
CHANNELS: tl.constexpr = tl.constexpr(2)

#: Logarithm of a decay after which nothing is left in any type; smaller ones, minus infinity among them, are taken as
#: this one, because zero times infinity is no number.
NOTHING_LEFT: tl.constexpr = tl.constexpr(-1000.0)


@triton.jit
def dot(a, b):
    """A product of matrices, not rounded to fewer digits: errors of a recurrence add up."""
    return tl.dot(a, b, input_precision="ieee")


@triton.jit
def load_tile(pointer, tokens, limit, stride, columns, width, ACC: tl.constexpr):
    """``(tokens, columns)``, zero at tokens from ``limit`` on."""
    inside = (tokens < limit)[:, None] & (columns < width)[None, :]
    places = pointer + tokens.to(tl.int64)[:, None] * stride + columns[None, :]
    return tl.load(places, mask=inside, other=0.0).to(ACC)


@triton.jit
def store_tile(pointer, tile, tokens, limit, stride, columns, width):
    inside = (tokens < limit)[:, None] & (columns < width)[None, :]
    places = pointer + tokens.to(tl.int64)[:, None] * stride + columns[None, :]
    tl.store(places, tile.to(pointer.dtype.element_ty), mask=inside)


@triton.jit
def load_state(pointer, key_columns, keys, value_columns, values):
    inside = (key_columns < keys)[:, None] & (value_columns < values)[None, :]
    return tl.load(pointer + key_columns[:, None] * values + value_columns[None, :], mask=inside, other=0.0)


@triton.jit
def store_state(pointer, state, key_columns, keys, value_columns, values):
    inside = (key_columns < keys)[:, None] & (value_columns < values)[None, :]
    tl.store(pointer + key_columns[:, None] * values + value_columns[None, :], state, mask=inside)


@triton.jit
def load_logs(
    pointer, tokens, limit, heads, columns, keys, DECAY: tl.constexpr, LENGTH: tl.constexpr, ACC: tl.constexpr
):
    """Logarithms of decays, ``(tokens, 1)`` or ``(tokens, columns)``; zero, which decays nothing, outside."""
    if DECAY == CHANNELS:
        logs = load_tile(pointer, tokens, limit, heads * keys, columns, keys, ACC)
    elif DECAY == HEADS:
        logs = tl.load(pointer + tokens.to(tl.int64) * heads, mask=tokens < limit, other=0.0).to(ACC)[:, None]
    else:
        logs = tl.zeros([LENGTH, 1], ACC)
    return tl.where(logs < NOTHING_LEFT, NOTHING_LEFT, logs)


@triton.jit
def since_start(logs):
    """The decay from the start of the chunk up to and with each token."""
    return tl.exp(tl.cumsum(logs, 0))


@triton.jit
def until_end(later_logs):
    """The decay after each token until the end of the chunk, of the logarithms of the tokens after each."""
    return tl.exp(tl.cumsum(later_logs, 0, reverse=True))


@triton.jit
def between(logs, LENGTH: tl.constexpr, ACC: tl.constexpr):
    """The decay of a head after token ``s`` up to and with ``t``, ``(t, s)``; zero where ``s > t``.

    These are sums over exactly the tokens between, so that a strong decay elsewhere takes no digits from them.
    """
    index = tl.arange(0, LENGTH)
    earlier = index[:, None] >= index[None, :]
    passed = tl.where(earlier, tl.trans(logs), 0.0)
    later = (index[:, None] > index[None, :]).to(ACC)
    return tl.where(earlier, tl.exp(dot(passed, later)), 0.0)


@triton.jit
def is_late(LEVEL: tl.constexpr, LENGTH: tl.constexpr):
    """Cut into blocks of two halves of ``2 ** LEVEL`` tokens: which are in a second half, ``(tokens, 1)``."""
    return ((tl.arange(0, LENGTH) >> LEVEL) & 1 == 1)[:, None]


@triton.jit
def across(tile, LEVEL: tl.constexpr, LENGTH: tl.constexpr):
    """``(t, s)``, zero but where ``t`` is in the second half of the block whose first half ``s`` is in."""
    half = tl.arange(0, LENGTH) >> LEVEL
    crossing = (half[:, None] == half[None, :] + 1) & (half[:, None] & 1 == 1)
    return tl.where(crossing, tile, 0.0)


@triton.jit
def from_border(logs, LEVEL: tl.constexpr, LENGTH: tl.constexpr, ACC: tl.constexpr):
    """The decay between each token and the border of the halves of its block, ``(tokens, columns)``.

    Late tokens: from the border up to and with them; early ones: after them up to the border. These are sums over
    exactly the tokens between, so that a strong decay elsewhere takes no digits from them.
    """
    token = tl.arange(0, LENGTH)[:, None]
    other = tl.arange(0, LENGTH)[None, :]
    border = ((token >> LEVEL) | 1) << LEVEL
    late = (token >= border) & (other >= border) & (other <= token)
    early = (other > token) & (other < border)
    return tl.exp(dot((late | early).to(ACC), logs))


@triton.jit
def raw_weights(q, k, logs, DECAY: tl.constexpr, LENGTH: tl.constexpr, LEVELS: tl.constexpr, ACC: tl.constexpr):
    """``sum over channels c of q_tc k_sc decay_cts``, ``(t, s)``; decays of heads, and ``s > t``, are left to `weigh`.

    Where each channel fades at a rate of its own, a chunk is halved again and again: across the border of two halves
    the weight is a product of what decays up to the border and what decays from it, both at most one.
    """
    if DECAY == CHANNELS:
        weights = on_diagonal(tl.sum(q * k, 1), LENGTH)
        for level in tl.static_range(LEVELS):
            late = is_late(level, LENGTH)
            fade = from_border(logs, level, LENGTH, ACC)
            pairs = dot(tl.where(late, q * fade, 0.0), tl.trans(tl.where(late, 0.0, k * fade)))
            weights += across(pairs, level, LENGTH)
    else:
        weights = dot(q, tl.trans(k))
    return weights


@triton.jit
def weigh(weights, logs, DECAY: tl.constexpr, LENGTH: tl.constexpr, ACC: tl.constexpr):
    """The weights of tokens ``s`` for ``t >= s``, ``(t, s)``."""
    if DECAY == HEADS:
        weights *= between(logs, LENGTH, ACC)
    return up_to(weights, LENGTH)


@triton.jit
def up_to(tile, LENGTH: tl.constexpr):
    """``(t, s)``, zero where ``s > t``."""
    index = tl.arange(0, LENGTH)
    return tl.where(index[:, None] >= index[None, :], tile, 0.0)


@triton.jit
def before(tile, LENGTH: tl.constexpr):
    """``(t, s)``, zero where ``s >= t``."""
    index = tl.arange(0, LENGTH)
    return tl.where(index[:, None] > index[None, :], tile, 0.0)


@triton.jit
def on_diagonal(column, LENGTH: tl.constexpr):
    index = tl.arange(0, LENGTH)
    return tl.where(index[:, None] == index[None, :], column[:, None], 0.0)


@triton.jit
def diagonal(tile, LENGTH: tl.constexpr):
    """The entries ``(t, t)`` as a column ``(tokens, 1)``."""
    index = tl.arange(0, LENGTH)
    return tl.sum(tl.where(index[:, None] == index[None, :], tile, 0.0), 1)[:, None]
