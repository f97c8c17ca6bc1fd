"""Activation functions, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.errors import UnknownNameError
from formwright.nn.functional.precision import widened


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


class LeakyReLU(nn.LeakyReLU):
    """``max(x, 0.1 x)``: the slope of MONAI's networks; PyTorch's own is 0.01."""

    def __init__(self) -> None:
        super().__init__(0.1)


class QuickGELU(nn.Module):
    """``x * sigmoid(1.702 x)``, the approximation of GELU that CLIP and CvT were trained with."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class PolyReLU(nn.Module):
    """``w0 u³ + w1 u² + w2 u + b`` with ``u = relu(x)`` and learned scalars, one set a layer.

    The weights start at one third and the bias at zero. Half-precision inputs are computed in float32, where their
    cubes have room.

    Source: Polynomial Composition Activations, arXiv 2411.03884.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((3,), 1 / 3))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        u = F.relu(widened(x))
        return (((self.weight[0] * u + self.weight[1]) * u + self.weight[2]) * u + self.bias).to(x.dtype)


class PolyNorm(nn.Module):
    """``w0 n(x³) + w1 n(x²) + w2 n(x) + b`` with ``n(t) = t / sqrt(mean(t²) + eps)`` and learned scalars.

    The mean is over the last axis, so that channels depend on each other. The weights start at one third and the bias
    at zero, one set a layer. Half-precision inputs are computed in float32.

    Source: Polynomial Composition Activations, arXiv 2411.03884.
    """

    #: a channel's result depends on the others
    normalises: ClassVar[bool] = True

    def __init__(self, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.full((3,), 1 / 3))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        u = widened(x)
        square = u * u
        cube = square * u
        # Powers two, four and six of u in the means; the norms of the terms are then numbers of a token.
        cubic, quadratic, linear = (
            weight * torch.rsqrt(torch.linalg.vecdot(term, term) / u.shape[-1] + self.eps).unsqueeze(-1)
            for weight, term in zip(self.weight, (cube, square, u), strict=True)
        )
        return (torch.addcmul(self.bias, u, linear) + square * quadratic + cube * cubic).to(x.dtype)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "identity": nn.Identity,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "gelu": nn.GELU,
    "gelu_tanh": TanhGELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "hard_swish": nn.Hardswish,
    "leaky_relu": LeakyReLU,
    "poly_norm": PolyNorm,
    "poly_relu": PolyReLU,
    "quick_gelu": QuickGELU,
    "squared_relu": SquaredReLU,
    "star_relu": StarReLU,
}


def build_activation(name: str) -> nn.Module:
    if name not in ACTIVATIONS:
        raise UnknownNameError("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]()
