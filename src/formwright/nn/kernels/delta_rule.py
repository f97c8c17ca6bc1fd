"""Launches the kernels of the delta rule, forward and backward.

A chunk's values are found as what is new in it; then the outputs, and the gradients of all that is not in its
transition, are those of the recurrence without decay.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from jaxtyping import Float
from torch import Tensor

from formwright.nn.kernels import MOST_KEYS
from formwright.nn.kernels.device import delta_rule as device
from formwright.nn.kernels.launch import CHUNK, LEVELS, accumulator, differentiable_once, on_device_of, tile
from formwright.nn.kernels.recurrence import Launch

#: Value channels of a tile, and warps of a program: beside all keys there is room for few.
VALUES, WARPS = 16, 8


def delta_rule_by_kernel(
    q: Float[Tensor, "batch time heads keys"],
    k: Float[Tensor, "batch time heads keys"],
    v: Float[Tensor, "batch time heads values"],
    beta: Float[Tensor, "batch time heads"],
    state: Float[Tensor, "batch heads keys values"],
) -> tuple[Float[Tensor, "batch time heads values"], Float[Tensor, "batch heads keys values"]]:
    """``S_t = S_{t-1} + k_t (β_t (v_t - S_{t-1}ᵀ k_t))ᵀ``, ``y_t = S_tᵀ q_t`` for at most :data:`MOST_KEYS` keys.

    Returns:
        The outputs in the type of ``v`` and the final state in its own, in which sums are kept.
    """
    return _DeltaRule.apply(q, k, v, beta, state)  # type: ignore[no-untyped-call]


class _DeltaLaunch:
    def __init__(self, q: Tensor, k: Tensor, v: Tensor, beta: Tensor, state: Tensor) -> None:
        self.q, self.k, self.v, self.beta, self.state = q, k, v, beta, state
        self.recurrence = Launch(q, v, None, state)
        _, time, heads, keys = q.shape
        self.sizes = (time, heads, keys, v.shape[-1])
        self.rows, self.chunks = self.recurrence.rows, self.recurrence.chunks
        value_tile = tile(v.shape[-1], VALUES)
        self.value_tiles = triton.cdiv(v.shape[-1], value_tile)
        self.tiles = {
            "LENGTH": CHUNK,
            "KEYS": tile(keys, MOST_KEYS),
            "VALUES": value_tile,
            "ACC": accumulator(state.dtype),
            "num_warps": WARPS,
        }

    def states(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The inverses of chunks, what reads the state before each, what is new, and the states between them."""
        k, v, state = self.k, self.v, self.state
        inverses = state.new_empty(self.rows, self.chunks, CHUNK, CHUNK)
        readers, unread = torch.empty_like(k, dtype=state.dtype), torch.empty_like(v, dtype=state.dtype)
        new = torch.empty_like(unread)
        starts = state.new_empty(self.rows, self.chunks + 1, *state.shape[2:])
        device.prepare_kernel[(self.rows * self.chunks,)](
            k, v, self.beta, inverses, readers, unread, *self.sizes, LEVELS=LEVELS, **self.tiles
        )
        device.states_kernel[(self.rows, self.value_tiles)](
            k, readers, unread, state, starts, new, *self.sizes, **self.tiles
        )
        return inverses, readers, new, starts

    def gradients(self, of_y: Tensor, of_final: Tensor) -> tuple[Tensor, ...]:
        """Those of all operands."""
        q, k, v, beta = self.q, self.k, self.v, self.beta
        inverses, readers, new, starts = self.states()
        ends = starts.new_empty(self.rows, self.chunks, *starts.shape[2:])
        of_new, of_initial = torch.empty_like(new), torch.empty_like(of_final)
        device.end_gradients_kernel[(self.rows, self.value_tiles)](
            q, k, readers, of_y, of_final, ends, of_new, of_initial, *self.sizes, **self.tiles
        )
        of_q, of_k, _ = self.recurrence.key_gradients(q, k, new, None, of_y, starts, ends)
        of_v, of_beta = torch.empty_like(v), torch.empty_like(beta)
        device.transition_gradients_kernel[(self.rows * self.chunks,)](
            k, v, beta, inverses, of_new, starts, of_k, of_v, of_beta, *self.sizes, **self.tiles
        )
        return of_q.to(q.dtype), of_k.to(k.dtype), of_v, of_beta, of_initial


class _DeltaRule(torch.autograd.Function):
    """What the chunks have made is computed again for the backward pass, not kept."""

    @staticmethod
    def forward(ctx: Any, *operands: Tensor) -> tuple[Tensor, Tensor]:
        q, k, v, beta, state = (x.contiguous() for x in operands)
        launch = _DeltaLaunch(q, k, v, beta, state)
        y = torch.empty_like(v)
        with on_device_of(v):
            _, _, new, starts = launch.states()
            launch.recurrence.outputs(q, k, new, None, starts, y)
        ctx.save_for_backward(q, k, v, beta, state)
        return y, starts[:, -1].reshape(state.shape).clone()

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, of_y: Tensor, of_final: Tensor) -> tuple[Tensor, ...]:
        return _DeltaLaunch(*ctx.saved_tensors).gradients(of_y.contiguous(), of_final.contiguous())
