"""Short causal depthwise convolutions over a sequence, with the state that streaming needs.

Three forms of the same sum, each where it is fastest on a CPU. As an image of one row in channels-last memory oneDNN
convolves a sequence three times as fast as PyTorch sums shifted copies, and twenty times as fast as ``conv1d``, which
has no channels-last form. oneDNN has nothing for float64, where shifted copies are added up. Its gradient of the
weights is slow beyond three taps, so that is one product with the shifted input for each tap.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F


def short_convolution(
    x: Float[Tensor, "batch time channels"],
    weight: Float[Tensor, "channels taps"],
    bias: Float[Tensor, " channels"] | None = None,
    *,
    initial_state: Float[Tensor, "batch taps_before channels"] | None = None,
    mask: Bool[Tensor, "batch time"] | None = None,
    starts: Bool[Tensor, "batch time"] | None = None,
) -> tuple[Float[Tensor, "batch time channels"], Float[Tensor, "batch taps_before channels"]]:
    """``y[t, c] = b[c] + sum over k of W[c, k] x[t - (taps - 1) + k, c]``: each channel is convolved by itself.

    Args:
        x: the sequence.
        weight: the last tap is that of the present token.
        bias: one value per channel.
        initial_state: the ``taps - 1`` inputs before the first; zeros if unset.
        mask: true for real tokens; others count as zero, and those after the last real one leave the state unchanged.
        starts: true where another sequence begins, which sees zeros before it.

    Returns:
        ``y`` and the ``taps - 1`` inputs that precede the next token.
    """
    taps = weight.shape[1]
    if mask is not None:
        x = x * mask.unsqueeze(-1)
    if initial_state is None:
        padded = F.pad(x, (0, 0, taps - 1, 0))
    else:
        padded = torch.cat([initial_state.to(x.dtype), x], dim=1)
    window = _last_inputs(padded, taps - 1, mask)
    if starts is not None:
        sequence = _sequence(starts, taps - 1)
        other = _last_inputs(sequence.unsqueeze(-1), taps - 1, mask) != sequence[:, -1:, None]
        window = window.masked_fill(other, 0)
    return convolve(padded, weight, bias, starts), window


def _sequence(starts: Tensor, before: int) -> Tensor:
    """The number of each token's sequence, with ``before`` tokens more in front of the first."""
    return F.pad(starts.cumsum(1), (before, 0))


def _last_inputs(padded: Tensor, count: int, mask: Tensor | None) -> Tensor:
    """The ``count`` inputs before the place after the last real token, as a tensor of their own."""
    if mask is None:
        return padded[:, padded.shape[1] - count :].clone()
    places = torch.arange(mask.shape[1] + 1, device=mask.device)
    lengths = (places * F.pad(mask, (1, 0))).amax(1)
    index = lengths[:, None] + torch.arange(count, device=mask.device)
    return padded.gather(1, index[..., None].expand(-1, -1, padded.shape[-1]))


def convolve(
    padded: Float[Tensor, "batch padded_time channels"],
    weight: Float[Tensor, "channels taps"],
    bias: Float[Tensor, " channels"] | None,
    starts: Bool[Tensor, "batch time"] | None = None,
) -> Float[Tensor, "batch time channels"]:
    """The convolution where all taps fall on ``padded``, so that ``time = padded_time - taps + 1``."""
    device = padded.device.type
    if device != "meta" and torch.is_autocast_enabled(device) and padded.dtype is not torch.float64:
        # Out here, where it is undone for the gradients: within, the backward would meet two types.
        dtype = torch.get_autocast_dtype(device)
        padded, weight = padded.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    if starts is not None:
        return _shifted(padded, weight, bias, starts)
    if padded.shape[1] == weight.shape[1]:
        y = (padded * weight.t()).sum(1, keepdim=True)
        return y if bias is None else y + bias
    if torch.compiler.is_compiling() and not torch.compiler.is_exporting():
        # Fused into one kernel for any length; of a convolution's gradient inductor makes one for each length.
        return _shifted(padded, weight, bias)
    if torch.compiler.is_exporting() or not torch.is_grad_enabled():
        return _as_one_row(padded, weight, bias)
    return _Convolution.apply(padded, weight, bias)  # type: ignore[no-untyped-call]


def _as_one_row(padded: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if padded.dtype is torch.float64:
        return _shifted(padded, weight, bias)
    row = padded.transpose(1, 2).unsqueeze(2)
    return F.conv2d(row, weight[:, None, None, :], bias, groups=weight.shape[0]).squeeze(2).transpose(1, 2)


def _shifted(padded: Tensor, weight: Tensor, bias: Tensor | None, starts: Tensor | None = None) -> Tensor:
    taps = weight.shape[1]
    time = padded.shape[1] - taps + 1
    sequence = None if starts is None else _sequence(starts, taps - 1)

    def seen(tap: int) -> Tensor:
        x = padded[:, tap : tap + time]
        if sequence is None:
            return x
        return x.masked_fill((sequence[:, tap : tap + time] != sequence[:, taps - 1 :]).unsqueeze(-1), 0)

    y = seen(0) * weight[:, 0]
    for tap in range(1, taps):
        y = torch.addcmul(y, seen(tap), weight[:, tap])
    return y if bias is None else y + bias


class _Convolution(torch.autograd.Function):
    """Differentiable as often as one likes, because its backward is made of differentiable operations."""

    generate_vmap_rule = True

    @staticmethod
    def forward(padded: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return _as_one_row(padded, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        padded, weight, _ = inputs
        ctx.save_for_backward(padded, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        padded, weight = ctx.saved_tensors
        wants_input, wants_weight, wants_bias = ctx.needs_input_grad
        taps, time = weight.shape[1], gradient.shape[1]
        of_input = of_weight = None
        if wants_input:
            of_input = convolve(F.pad(gradient, (0, 0, taps - 1, taps - 1)), weight.flip(1), None)
        if wants_weight:
            shifts = [(padded[:, tap : tap + time] * gradient).sum((0, 1)) for tap in range(taps)]
            of_weight = torch.stack(shifts, dim=-1)
        return of_input, of_weight, gradient.sum((0, 1)) if wants_bias else None
