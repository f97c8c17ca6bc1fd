"""Launches the kernels of the selective scan of Mamba, forward and backward."""

# ruff: noqa: N803, N806  # A, B and C are the names of the paper
from __future__ import annotations

from typing import Any

import torch
import triton
from jaxtyping import Float
from torch import Tensor

from formwright.nn.kernels.device import selective_scan as device
from formwright.nn.kernels.launch import accumulator, differentiable_once, on_device_of

#: The most tokens of a chunk.
CHUNK = 16
#: Values ``tokens x channels x states`` of a tile, which has all states of its channels.
TILE = 4096


def selective_scan_by_kernel(
    x: Float[Tensor, "batch time channels"],
    delta: Float[Tensor, "batch time channels"],
    A: Float[Tensor, "channels states"],
    B: Float[Tensor, "batch time states"],
    C: Float[Tensor, "batch time states"],
    state: Float[Tensor, "batch channels states"],
) -> tuple[Float[Tensor, "batch time channels"], Float[Tensor, "batch channels states"]]:
    """``h[t] = exp(delta[t] A) h[t-1] + delta[t] B[t] x[t]`` and ``y[t, c] = sum over n of C[t, n] h[t, c, n]``.

    Returns:
        The outputs in the type of ``x`` and the final state in its own, in which sums are kept.
    """
    return _SelectiveScan.apply(x, delta, A, B, C, state)  # type: ignore[no-untyped-call]


class _SelectiveScan(torch.autograd.Function):
    """Only the state before each chunk is kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, *operands: Tensor) -> tuple[Tensor, Tensor]:
        x, delta, A, B, C, state = (operand.contiguous() for operand in operands)
        batch, time, channels = x.shape
        length, states = min(CHUNK, triton.next_power_of_2(time)), triton.next_power_of_2(A.shape[1])
        width = min(max(1, TILE // (CHUNK * states)), triton.next_power_of_2(channels))
        tiles = {"LENGTH": length, "CHANNELS": width, "STATES": states, "ACC": accumulator(state.dtype)}
        starts = state.new_empty(batch, triton.cdiv(time, length), *A.shape)
        final, y = torch.empty_like(state), torch.empty_like(x)
        grid = (batch, triton.cdiv(channels, width))
        with on_device_of(x):
            device.scan_kernel[grid](x, delta, A, B, C, state, starts, final, y, time, *A.shape, **tiles)
        ctx.save_for_backward(x, delta, A, B, C, starts)
        ctx.grid, ctx.tiles = grid, tiles
        return y, final

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, of_y: Tensor, of_final: Tensor) -> tuple[Tensor, ...]:
        x, delta, A, B, C, starts = ctx.saved_tensors
        batch, time, _ = x.shape
        of_x, of_delta, of_initial = torch.empty_like(x), torch.empty_like(delta), torch.empty_like(of_final)
        of_A = starts.new_empty(batch, *A.shape)
        of_B, of_C = (starts.new_empty(ctx.grid[1], *B.shape) for _ in range(2))
        device.gradients_kernel[ctx.grid](
            x, delta, A, B, C, starts, of_y.contiguous(), of_final.contiguous(), of_x, of_delta, of_A, of_B, of_C,
            of_initial, batch, time, *A.shape, **ctx.tiles,
        )  # fmt: skip
        of_A, of_B, of_C = (parts.sum(0).to(operand.dtype) for parts, operand in ((of_A, A), (of_B, B), (of_C, C)))
        return of_x, of_delta, of_A, of_B, of_C, of_initial
