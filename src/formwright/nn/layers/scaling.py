"""A value per channel before or after a layer becomes part of its weights: what folds norms and LayerScale."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from formwright.nn.layers.base import Layer
from formwright.nn.layers.plain import PLAIN


def scalable(*layers: nn.Module) -> bool:
    """Whether all of these layers can take a value per channel into their weights."""
    return all(layer.scalable if isinstance(layer, Layer) else isinstance(layer, PLAIN) for layer in layers)


@torch.no_grad()
def scale_input(layer: nn.Module, scale: Tensor, shift: Tensor | None = None) -> bool:
    """Let a dense ``layer`` do in place what it did to ``scale * x + shift``: ``(W scale) x + (W shift + b)``.

    Returns:
        Whether it could; otherwise nothing was changed.
    """
    if not scalable(layer):
        return False
    if isinstance(layer, Layer):
        layer.scale_input(scale, shift)
        return True
    assert isinstance(layer, nn.Linear)
    learns = layer.weight.requires_grad
    if shift is not None:
        bias = layer.weight @ shift if layer.bias is None else layer.weight @ shift + layer.bias
        layer.bias = nn.Parameter(bias, requires_grad=learns)
    layer.weight = nn.Parameter(layer.weight * scale, requires_grad=learns)
    return True


@torch.no_grad()
def scale_output(layer: nn.Module, scale: Tensor, shift: Tensor | None = None) -> bool:
    """Let ``layer`` give in place ``scale * (W x + b) + shift``.

    Returns:
        Whether it could; otherwise nothing was changed.
    """
    if not scalable(layer):
        return False
    if isinstance(layer, Layer):
        layer.scale_output(scale, shift)
        return True
    assert isinstance(layer, PLAIN)
    learns = layer.weight.requires_grad
    weight = layer.weight * scale.view(-1, *[1] * (layer.weight.ndim - 1))
    layer.weight = nn.Parameter(weight, requires_grad=learns)
    bias = scaled_bias(layer.bias, scale, shift)
    layer.bias = None if bias is None else nn.Parameter(bias, requires_grad=learns)
    return True


def scaled_bias(bias: Tensor | None, scale: Tensor, shift: Tensor | None) -> Tensor | None:
    """``scale * bias + shift``, either of which may be absent."""
    if bias is None:
        return shift
    return bias * scale if shift is None else shift + bias * scale
