"""Launches the kernels of ``S_t = diag(a_t) S_{t-1} + k_t v_tᵀ``, ``y_t = S_tᵀ q_t``, forward and backward.

Linear attention is the recurrence without decay, gated linear attention has one for each key channel, and the
state-space duality one for each head, with queries and keys that heads share.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from jaxtyping import Float
from torch import Tensor

from formwright.nn.kernels.device import recurrence as forward_device
from formwright.nn.kernels.device import recurrence_gradients as backward_device
from formwright.nn.kernels.launch import CHUNK, LEVELS, accumulator, differentiable_once, on_device_of, tile


def decayed_recurrence(
    q: Float[Tensor, "batch time groups keys"],
    k: Float[Tensor, "batch time groups keys"],
    v: Float[Tensor, "batch time heads values"],
    log_decay: Float[Tensor, "batch time heads *keys"] | None,
    state: Float[Tensor, "batch heads keys values"],
) -> tuple[Float[Tensor, "batch time heads values"], Float[Tensor, "batch heads keys values"]]:
    """``S_t = diag(exp(g_t)) S_{t-1} + k_t v_tᵀ`` and ``y_t = S_tᵀ q_t`` for each head.

    Args:
        q: queries; ``heads / groups`` heads share those of a group.
        k: keys, shared likewise.
        v: values.
        log_decay: ``g``, at most zero, for each head or each of its key channels; none if unset.
        state: the state before the first token, in the type that sums are kept in.

    Returns:
        The outputs in the type of ``v`` and the final state in its own.
    """
    return _Recurrence.apply(q, k, v, log_decay, state)  # type: ignore[no-untyped-call]


class Launch:
    """The sizes of a recurrence, and its kernels with all that they need to know of these."""

    def __init__(self, q: Tensor, v: Tensor, log_decay: Tensor | None, state: Tensor) -> None:
        self.batch, self.time, self.heads, self.values = v.shape
        self.groups, self.keys = q.shape[2:]
        self.rows = self.batch * self.heads
        self.sizes = (self.time, self.heads, self.groups, self.keys, self.values)
        self.decay = 0 if log_decay is None else log_decay.ndim - 2
        key_tile, value_tile = tile(self.keys), tile(self.values)
        self.chunks = triton.cdiv(self.time, CHUNK)
        self.key_tiles, self.value_tiles = triton.cdiv(self.keys, key_tile), triton.cdiv(self.values, value_tile)
        self.tiles = {
            "DECAY": self.decay,
            "LENGTH": CHUNK,
            "KEYS": key_tile,
            "VALUES": value_tile,
            "ACC": accumulator(state.dtype),
        }
        self.levels = {"LEVELS": LEVELS}

    def states(self, k: Tensor, v: Tensor, log_decay: Tensor | None, state: Tensor) -> Tensor:
        """The state before each chunk, and after the last: ``(rows, chunks + 1, keys, values)``."""
        starts = state.new_empty(self.rows, self.chunks + 1, self.keys, self.values)
        logs = k if log_decay is None else log_decay
        grid = (self.rows, self.key_tiles, self.value_tiles)
        forward_device.states_kernel[grid](k, v, logs, state, starts, *self.sizes, **self.tiles)
        return starts

    def outputs(self, q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, starts: Tensor, y: Tensor) -> None:
        """Fill ``y``."""
        logs = k if log_decay is None else log_decay
        grid = (self.rows * self.chunks, self.value_tiles)
        forward_device.outputs_kernel[grid](q, k, v, logs, starts, y, *self.sizes, **self.tiles, **self.levels)

    def end_gradients(
        self, q: Tensor, log_decay: Tensor | None, of_y: Tensor, of_final: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The gradients of the state after each chunk, ``(rows, chunks, keys, values)``, and of the first state."""
        ends = of_final.new_empty(self.rows, self.chunks, self.keys, self.values)
        of_initial = torch.empty_like(of_final)
        logs = q if log_decay is None else log_decay
        grid = (self.rows, self.key_tiles, self.value_tiles)
        backward_device.end_gradients_kernel[grid](q, logs, of_y, of_final, ends, of_initial, *self.sizes, **self.tiles)
        return ends, of_initial

    def value_gradients(
        self, q: Tensor, k: Tensor, log_decay: Tensor | None, of_y: Tensor, ends: Tensor, of_v: Tensor
    ) -> None:
        """Fill ``of_v``."""
        logs = k if log_decay is None else log_decay
        grid = (self.rows * self.chunks, self.value_tiles)
        backward_device.value_gradients_kernel[grid](
            q, k, logs, of_y, ends, of_v, *self.sizes, **self.tiles, **self.levels
        )

    def key_gradients(
        self, q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, of_y: Tensor, starts: Tensor, ends: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The gradients of ``q``, ``k`` and the decays, in the type of the states; each group's are summed."""
        own = (self.batch, self.time, self.heads, self.keys)
        of_q, of_k = starts.new_empty(own), starts.new_empty(own)
        logs = k if log_decay is None else log_decay
        parts = self.key_tiles if self.decay == 1 else 1
        of_logs = starts.new_empty(0) if log_decay is None else starts.new_empty(parts, *log_decay.shape)
        grid = (self.rows * self.chunks, self.key_tiles)
        backward_device.key_gradients_kernel[grid](
            q, k, v, logs, of_y, starts, ends, of_q, of_k, of_logs, self.rows, *self.sizes, **self.tiles, **self.levels
        )
        if self.groups != self.heads:
            of_q, of_k = (x.view(*x.shape[:2], self.groups, -1, self.keys).sum(3) for x in (of_q, of_k))
        return of_q, of_k, None if log_decay is None else of_logs.sum(0)


class _Recurrence(torch.autograd.Function):
    """States between the chunks are computed again for the backward pass, not kept."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        q, k, v, state = (x.contiguous() for x in (q, k, v, state))
        log_decay = None if log_decay is None else log_decay.contiguous()
        launch = Launch(q, v, log_decay, state)
        y = torch.empty_like(v)
        with on_device_of(v):
            starts = launch.states(k, v, log_decay, state)
            launch.outputs(q, k, v, log_decay, starts, y)
        ctx.save_for_backward(q, k, v, log_decay, state)
        return y, starts[:, -1].reshape(state.shape).clone()

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, of_y: Tensor, of_final: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, log_decay, state = ctx.saved_tensors
        of_y, of_final = of_y.contiguous(), of_final.contiguous()
        launch = Launch(q, v, log_decay, state)
        starts = launch.states(k, v, log_decay, state)
        ends, of_initial = launch.end_gradients(q, log_decay, of_y, of_final)
        of_v = torch.empty_like(v)
        launch.value_gradients(q, k, log_decay, of_y, ends, of_v)
        of_q, of_k, of_logs = launch.key_gradients(q, k, v, log_decay, of_y, starts, ends)
        of_decay = None if of_logs is None else of_logs.to(log_decay.dtype)
        return of_q.to(q.dtype), of_k.to(k.dtype), of_v, of_decay, of_initial
