"""Activation functions, by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.errors import UnknownNameError


def squared_relu(x: Tensor) -> Tensor:
    """``relu(x)²``; ``relu(x) x`` in exported graphs.

    ONNX Runtime does not fuse an INT8 product with the ReLU that is the only reader of its result, and multiplies in
    float32 instead.
    """
    positive = F.relu(x)
    return positive * x if torch.compiler.is_exporting() else positive.square()


class StarReLU(nn.Module):
    """``s * relu(x)² + b`` with learned scalars ``s`` and ``b``, one pair a layer.

    For standard normal inputs ``s = 0.8944`` and ``b = -0.4472`` give outputs of mean zero and variance one; the
    authors' code starts at one and zero, and so do we. Four operations an element, where GELU takes fourteen.

    Source: MetaFormer Baselines for Vision, arXiv 2210.13452.
    """

    def __init__(self, scale: float = 1.0, bias: float = 0.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((1,), scale))
        self.bias = nn.Parameter(torch.full((1,), bias))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.bias, self.scale, squared_relu(x))


class SquaredReLU(nn.Module):
    """``relu(x)²``. Source: Primer, arXiv 2109.08668."""

    def forward(self, x: Tensor) -> Tensor:
        return squared_relu(x)


class TanhGELU(nn.GELU):
    """GELU in its hyperbolic-tangent approximation, which GPT-2 was trained with."""

    def __init__(self) -> None:
        super().__init__(approximate="tanh")


class QuickGELU(nn.Module):
    """``x * sigmoid(1.702 x)``, the approximation of GELU that CLIP and CvT were trained with."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "identity": nn.Identity,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "gelu_tanh": TanhGELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "hard_swish": nn.Hardswish,
    "quick_gelu": QuickGELU,
    "squared_relu": SquaredReLU,
    "star_relu": StarReLU,
}


def build_activation(name: str) -> nn.Module:
    if name not in ACTIVATIONS:
        raise UnknownNameError("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]()
