"""Batch norm of which padding is no part."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from formwright.nn.functional.chunks import accumulation_type, masked

BatchNormModule = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d


def batch_norm(
    norm: BatchNormModule,
    x: Float[Tensor, "batch *grid channels"],
    mask: Bool[Tensor, "batch *grid"] | None = None,
) -> Float[Tensor, "batch *grid channels"]:
    """``weight * (x - mean) / sqrt(var + eps) + bias`` with PyTorch's module, over tokens with their channels last.

    In training, mean and variance are those of the real tokens of the batch, and so is what the running statistics
    follow; without a real token they stay. In inference the running statistics are taken, as ever.

    Args:
        norm: whose weights, statistics and mode count.
        x: the tokens.
        mask: true for real tokens.
    """
    if mask is None or not norm.training:
        return norm(x.flatten(0, -2)).view(x.shape)
    dtype = accumulation_type(x.dtype)
    tokens, mask = x.flatten(0, -2).to(dtype)[None], mask.flatten()[None]
    count = mask.sum().to(dtype)
    mean = masked(tokens, mask).sum(1) / count.clamp(min=1)
    centred = masked(tokens - mean, mask)
    variance = centred.square().sum(1) / count.clamp(min=1)
    _follow(norm, mean[0], variance[0] * (count / (count - 1).clamp(min=1)), count)
    y = centred * torch.rsqrt(variance + norm.eps) * norm.weight + norm.bias
    return y.to(x.dtype).view(x.shape)


@torch.no_grad()
def _follow(norm: BatchNormModule, mean: Tensor, variance: Tensor, count: Tensor) -> None:
    """Let the running statistics go a step towards those of a batch, unless it had no token."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    step = norm.num_batches_tracked.reciprocal() if norm.momentum is None else norm.momentum
    step = step * (count > 0)
    for running, latest in ((norm.running_mean, mean), (norm.running_var, variance)):
        running.add_(step * (latest.to(running.dtype) - running))
