"""The selective scan of Mamba: a diagonal state-space recurrence whose decay differs for every channel and state.

Tokens are treated a block at a time, and a block is a few chunks. All chunks of a block go forward together, each from
an empty state, so that what is walked over in Python is the length of a chunk and the number of blocks, never the time.
Then the states at the ends of the chunks are put together, and each chunk adds what its true first state has become.
A block is small enough to stay in the cache through all of this, which on a CPU is most of the speed. Channels are
innermost in memory, not states: the products that make and use the states then run over long rows, and ``exp2``, which
is three times as fast as ``exp``, takes the rates of decay in powers of two. Nothing of the size ``time x channels x
states`` outlives its block; the backward pass computes it again from the state before each block.
"""

# ruff: noqa: N803, N806  # A, B and C are the names of the paper
from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from formwright.nn import kernels
from formwright.nn.functional.any_length import any_length
from formwright.nn.functional.chunks import accumulation_type, over_any_length
from formwright.nn.functional.one_operation import one_operation
from formwright.nn.functional.transforms import transformed

#: Tokens of a chunk: how many steps are taken one after the other.
CHUNK = 8
#: The same in an exported program for any time, where the steps are as many as its length has binary digits.
EXPORTED_CHUNK = 16
#: Values ``samples x tokens x states x channels`` of a block, of which a pass needs two to five in the cache.
BLOCK_VALUES = 2**19
#: Channels of a block, where there are more.
BLOCK_CHANNELS = 512


def selective_scan(
    x: Float[Tensor, "batch time channels"],
    delta: Float[Tensor, "batch time channels"],
    A: Float[Tensor, "channels states"],
    B: Float[Tensor, "batch time states"],
    C: Float[Tensor, "batch time states"],
    *,
    initial_state: Float[Tensor, "batch channels states"] | None = None,
    mask: Bool[Tensor, "batch time"] | None = None,
    starts: Bool[Tensor, "batch time"] | None = None,
) -> tuple[Float[Tensor, "batch time channels"], Float[Tensor, "batch channels states"]]:
    """``h[t] = exp(delta[t] A) h[t-1] + delta[t] B[t] x[t]`` and ``y[t, c] = sum over n of C[t, n] h[t, c, n]``.

    Args:
        x: what is written into the state.
        delta: the size of each step, positive.
        A: the rate of each state of each channel, negative.
        B: how the input is spread over the states.
        C: how the states are read.
        initial_state: the state before the first token; zeros if unset.
        mask: true for real tokens; others leave the state unchanged.
        starts: true where another sequence begins, which nothing before it reaches.

    Returns:
        ``y`` in the type of ``x``, and the state after the last token, at least in float32.

    Source: Mamba: Linear-Time Sequence Modeling with Selective State Spaces, arXiv 2312.00752.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    if mask is not None:
        delta = delta * mask.unsqueeze(-1)
    one = initial_state is not None and starts is None and x.shape[1] == 1  # without a state, lengths may be any
    if initial_state is None:
        initial_state = x.new_zeros(x.shape[0], *A.shape, dtype=dtype)
    if x.shape[1] == 0:
        return x, initial_state.to(dtype)
    if one:
        y, state = selective_scan_step(x[:, 0], delta[:, 0], A, B[:, 0], C[:, 0], initial_state.to(dtype))
        return y.unsqueeze(1), state
    if kernels.takes(x) and starts is None:
        from formwright.nn.kernels.selective_scan import selective_scan_by_kernel

        return selective_scan_by_kernel(x, delta, A, B, C, initial_state.to(dtype))
    delta, A, B, C, state = (operand.to(dtype) for operand in (delta, A, B, C, initial_state))
    y, state = _scan(x.to(dtype), delta, A, B, C, state, starts)
    return y.to(x.dtype), state


def _shaped(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor, starts: Tensor | None
) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), state.new_empty(state.shape)


@one_operation("selective_scan", _shaped)
def _scan(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor, starts: Tensor | None
) -> tuple[Tensor, Tensor]:
    if not (torch.compiler.is_compiling() or transformed()):
        return _SelectiveScan.apply(x, delta, A, B, C, state, starts)  # type: ignore[no-untyped-call]
    if not any_length(x.shape[1]):
        return _scan_by_doubling(x, delta, A, B, C, state, starts)

    def chunk(
        x: Tensor, delta: Tensor, B: Tensor, C: Tensor, state: Tensor, starts: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        return _scan_by_doubling(x, delta, A, B, C, state, starts)

    return over_any_length(chunk, (x, delta, B, C), state, x.dtype, EXPORTED_CHUNK, starts)


def selective_scan_step(
    x: Float[Tensor, "batch channels"],
    delta: Float[Tensor, "batch channels"],
    A: Float[Tensor, "channels states"],
    B: Float[Tensor, "batch states"],
    C: Float[Tensor, "batch states"],
    state: Float[Tensor, "batch channels states"],
) -> tuple[Float[Tensor, "batch channels"], Float[Tensor, "batch channels states"]]:
    """One token of :func:`selective_scan`: ``y`` and the state after it."""
    dtype = accumulation_type(torch.promote_types(x.dtype, state.dtype))
    step = delta.to(dtype).unsqueeze(-1)
    written = (step * x.to(dtype).unsqueeze(-1)) * B.to(dtype).unsqueeze(1)
    state = torch.addcmul(written, torch.exp(step * A.to(dtype)), state.to(dtype))
    return (state @ C.to(dtype).unsqueeze(-1)).squeeze(-1).to(x.dtype), state


def _scan_by_doubling(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    state: Tensor,
    starts: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The same in as many steps as the time has binary digits, without loops that a compiled graph would unroll.

    Made of operations that can be transformed and differentiated in any way, for which all states are kept.
    """
    decay = torch.exp(delta.unsqueeze(-1) * A)
    if starts is not None:
        decay = decay.masked_fill(starts[:, :, None, None], 0)
    written = (delta * x).unsqueeze(-1) * B.unsqueeze(2)
    states = torch.cat([(written[:, :1] + decay[:, :1] * state.unsqueeze(1)), written[:, 1:]], dim=1)
    reach = 1
    while reach < x.shape[1]:
        states = torch.cat([states[:, :reach], states[:, reach:] + decay[:, reach:] * states[:, :-reach]], dim=1)
        decay = torch.cat([decay[:, :reach], decay[:, reach:] * decay[:, :-reach]], dim=1)
        reach *= 2
    return (states @ C.unsqueeze(-1)).squeeze(-1), states[:, -1]


@dataclass(frozen=True)
class _Block:
    """Tokens that are treated together: ``chunks`` of ``length`` each, from ``start``."""

    start: int
    chunks: int
    length: int

    @property
    def tokens(self) -> slice:
        return slice(self.start, self.start + self.chunks * self.length)

    def of(self, sequence: Tensor) -> Tensor:
        """Its tokens of ``(samples, time, features)`` as ``(samples, chunks, length, features)``."""
        samples, _, features = sequence.shape
        return sequence[:, self.tokens].view(samples, self.chunks, self.length, features)


def _blocks(values: int, time: int) -> list[_Block]:
    """All tokens in blocks, where a token has ``values``; what does not fill a chunk is a block of its own."""
    chunks = max(1, BLOCK_VALUES // (values * CHUNK))
    whole = time // CHUNK
    blocks = [_Block(first * CHUNK, min(chunks, whole - first), CHUNK) for first in range(0, whole, chunks)]
    return [*blocks, _Block(whole * CHUNK, 1, time % CHUNK)] if time % CHUNK else blocks


def _stripes(batch: int, channels: int, states: int) -> Iterator[tuple[slice, slice]]:
    """Samples and channels whose states are computed together from the first token to the last."""
    width = min(channels, BLOCK_CHANNELS)
    samples = max(1, BLOCK_VALUES // (CHUNK * CHUNK * width * states))
    for first in range(0, batch, samples):
        for channel in range(0, channels, width):
            yield slice(first, min(first + samples, batch)), slice(channel, min(channel + width, channels))


class _Workspace:
    """The buffers of a block, ``(samples, chunks, length, states, channels)``, used for one block after the other."""

    def __init__(self, state: Tensor, block: _Block) -> None:
        samples, *size = state.shape
        self.shape = (samples, block.chunks, block.length, *size)
        self.decay, self.states = state.new_empty(self.shape), state.new_empty(self.shape)
        self.starts = state.new_empty(samples, block.chunks + 1, *size)

    @functools.cached_property
    def more(self) -> tuple[Tensor, Tensor]:
        """Two further buffers, for the backward pass."""
        return torch.empty_like(self.decay), torch.empty_like(self.decay)

    def load(self, delta: Tensor, written: Tensor, rates: Tensor, B: Tensor, starts: Tensor | None) -> None:
        """The decay at each token, and what it writes."""
        torch.mul(delta.unsqueeze(3), rates, out=self.decay).exp2_()
        if starts is not None:
            self.decay[starts.squeeze(3)] = 0
        torch.mul(written.unsqueeze(3), B.unsqueeze(4), out=self.states)

    def advance(self, state: Tensor, cumulated: Tensor) -> Tensor:
        """Make the states of what was written, and return the last one.

        ``cumulated`` receives the decay since each chunk's beginning; it may be the buffer of the decays itself.
        """
        decays, states, products = self.decay.unbind(2), self.states.unbind(2), cumulated.unbind(2)
        if cumulated is not self.decay:
            products[0].copy_(decays[0])
        for step in range(1, len(states)):
            states[step].addcmul_(decays[step], states[step - 1])
            torch.mul(decays[step], products[step - 1], out=products[step])
        starts = self.starts.unbind(1)
        starts[0].copy_(state)
        for chunk, (last, product) in enumerate(zip(states[-1].unbind(1), products[-1].unbind(1), strict=True)):
            torch.addcmul(last, product, starts[chunk], out=starts[chunk + 1])
        self.states.addcmul_(cumulated, self.starts[:, :-1].unsqueeze(2))
        return starts[-1]

    def retreat(self, gradient: Tensor, end: Tensor, cumulated: Tensor) -> Tensor:
        """From the gradients of what was read of each state to those of the states, and of the one before the block.

        ``end`` is the gradient of the last state from all later blocks; ``cumulated`` receives the decay until each
        chunk's end.
        """
        decays, gradients, products = self.decay.unbind(2), gradient.unbind(2), cumulated.unbind(2)
        products[-1].fill_(1)
        for step in range(len(decays) - 2, -1, -1):
            gradients[step].addcmul_(decays[step + 1], gradients[step + 1])
            torch.mul(decays[step + 1], products[step + 1], out=products[step])
        all_ends = torch.empty_like(self.starts)
        ends = all_ends.unbind(1)
        ends[-1].copy_(end)
        for chunk in range(len(ends) - 2, -1, -1):
            first = torch.addcmul(gradients[0][:, chunk], products[0][:, chunk], ends[chunk + 1])
            torch.mul(first, decays[0][:, chunk], out=ends[chunk])
        gradient.addcmul_(cumulated, all_ends[:, 1:].unsqueeze(2))
        return ends[0]

    def decayed_states(self, gradient: Tensor) -> Tensor:
        """The gradients times what is left at each token of the state before it, in the buffer of the decays."""
        self.decay.mul_(gradient)
        self.decay[:, :, 1:].mul_(self.states[:, :, :-1])
        self.decay[:, :, 0].mul_(self.starts[:, :-1])
        return self.decay


def _read(weights: Tensor, states: Tensor) -> Tensor:
    """``sum over n of weights[..., n] states[..., n, c]``, a product of matrices for each token."""
    samples, chunks, length, count, channels = states.shape
    rows = torch.bmm(weights.reshape(-1, 1, count), states.view(-1, count, channels))
    return rows.view(samples, chunks * length, channels)


class _Scan:
    """The scan over all tokens of some samples and channels.

    Args:
        delta, written: ``(samples, time, channels)``, the step and its product with the input.
        rates: ``(states, channels)``.
        B, C: ``(samples, time, states)``.
        starts: ``(samples, time, 1)``, if there are any.
    """

    def __init__(
        self, delta: Tensor, written: Tensor, rates: Tensor, B: Tensor, C: Tensor, starts: Tensor | None
    ) -> None:
        self.delta, self.written, self.rates, self.B, self.C = delta, written, rates.contiguous(), B, C
        self.starts = starts
        self.powers = self.rates / math.log(2)
        samples, time, _ = delta.shape
        self.blocks = _blocks(samples * rates.numel(), time)
        self._spaces: dict[tuple[int, int], _Workspace] = {}

    def _space(self, state: Tensor, block: _Block) -> _Workspace:
        key = (block.chunks, block.length)
        if key not in self._spaces:
            self._spaces[key] = _Workspace(state, block)
        space = self._spaces[key]
        starts = None if self.starts is None else block.of(self.starts)
        space.load(block.of(self.delta), block.of(self.written), self.powers, block.of(self.B), starts)
        return space

    def forward(self, state: Tensor, y: Tensor) -> Iterator[Tensor]:
        """Fill ``y``, and give the state ``(samples, states, channels)`` before each block and after the last."""
        for block in self.blocks:
            yield state
            space = self._space(state, block)
            state = space.advance(state, space.decay)
            y[:, block.tokens] = _read(block.of(self.C), space.states)
        yield state

    def backward(self, kept: list[Tensor], end: Tensor, of_y: Tensor, out: _Gradients) -> Tensor:
        """Fill ``out``, and give the gradient of the first state, of those of ``y`` and of the last state, ``end``."""
        for block, state in zip(reversed(self.blocks), reversed(kept), strict=True):
            space = self._space(state, block)
            scratch, gradient = space.more
            space.advance(state, scratch)
            read = block.of(of_y).unsqueeze(3)
            out.C[:, block.tokens] += torch.mul(space.states, read, out=scratch).sum(-1).flatten(1, 2)
            torch.mul(block.of(self.C).unsqueeze(4), read, out=gradient)
            end = space.retreat(gradient, end, scratch)
            out.written[:, block.tokens] = _read(block.of(self.B), gradient)
            written = block.of(self.written).unsqueeze(3)
            out.B[:, block.tokens] += torch.mul(gradient, written, out=scratch).sum(-1).flatten(1, 2)
            decayed = space.decayed_states(gradient)
            out.delta[:, block.tokens] = torch.mul(decayed, self.rates, out=scratch).sum(3).flatten(1, 2)
            out.rates += torch.mul(decayed, block.of(self.delta).unsqueeze(3), out=scratch).sum((0, 1, 2))
        return end


@dataclass
class _Gradients:
    """Where the gradients of the operands of a :class:`_Scan` go."""

    delta: Tensor
    written: Tensor
    rates: Tensor
    B: Tensor
    C: Tensor


class _SelectiveScan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        initial: Tensor,
        starts: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        written, y, final = delta * x, torch.empty_like(x), torch.empty_like(initial)
        kept = []
        for rows, columns in _stripes(x.shape[0], *A.shape):
            part, cut = (rows, slice(None), columns), None if starts is None else starts[rows].unsqueeze(-1)
            scan = _Scan(delta[part], written[part], A[columns].t(), B[rows], C[rows], cut)
            for state in scan.forward(initial[rows, columns].transpose(1, 2), y[rows, :, columns]):
                if any(ctx.needs_input_grad):
                    kept.append(state.clone())
            final[rows, columns] = state.transpose(1, 2)
            del kept[-1:]
        ctx.save_for_backward(x, delta, A, B, C, initial, starts, *kept)
        return y, final

    @staticmethod
    def backward(ctx: Any, of_y: Tensor, of_final: Tensor) -> tuple[Tensor | None, ...]:
        x, delta, A, B, C, _, starts, *kept = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradients shall be differentiated again
            return _gradients_with_graph(ctx.saved_tensors[:7], (of_y, of_final), ctx.needs_input_grad)
        written = delta * x
        of_delta, of_written = torch.empty_like(delta), torch.empty_like(written)
        of_A, of_B, of_C = torch.zeros_like(A), torch.zeros_like(B), torch.zeros_like(C)
        of_initial = torch.empty_like(of_final)
        for rows, columns in _stripes(x.shape[0], *A.shape):
            part, cut = (rows, slice(None), columns), None if starts is None else starts[rows].unsqueeze(-1)
            scan = _Scan(delta[part], written[part], A[columns].t(), B[rows], C[rows], cut)
            out = _Gradients(of_delta[part], of_written[part], of_A[columns].t(), of_B[rows], of_C[rows])
            own, kept = kept[: len(scan.blocks)], kept[len(scan.blocks) :]
            first = scan.backward(own, of_final[rows, columns].transpose(1, 2), of_y[part], out)
            of_initial[rows, columns] = first.transpose(1, 2)
        return of_written * delta, torch.addcmul(of_delta, of_written, x), of_A, of_B, of_C, of_initial, None


def _gradients_with_graph(
    operands: tuple[Tensor, ...], of_results: tuple[Tensor, Tensor], wanted: tuple[bool, ...]
) -> tuple[Tensor | None, ...]:
    results = _scan_by_doubling(*operands)
    leaves = [operand for operand, wants in zip(operands, wanted, strict=True) if wants]
    found = iter(torch.autograd.grad(results, leaves, of_results, create_graph=True))
    return tuple(next(found) if wants else None for wants in wanted)
