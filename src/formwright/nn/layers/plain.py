"""Plain layers: PyTorch's dense and convolutional ones, and what they are apart from their weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.errors import UserError
from formwright.nn.functional.convolution import convolution

Plain = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
PLAIN = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Form:
    """A plain layer without its weights: its class, and the stride, padding and groups of a convolution.

    Calling it is the layer's product, ``W * x + b``, with weights that are given: ``(..., in)`` to ``(..., out)`` for
    a dense layer, ``(batch, in, *grid)`` to ``(batch, out, *out_grid)`` for a convolution.
    """

    kind: type[Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    depthwise: bool = False

    @staticmethod
    def of(layer: nn.Module) -> Form:
        """The form of a plain layer.

        Raises:
            UserError: it is no plain layer, or a dilated convolution or one that pads with other values than zero.
        """
        if isinstance(layer, nn.Linear):
            return Form(type(layer))
        if not isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            raise UserError(
                f"Only a dense or convolutional layer can be replaced, and this is a {type(layer).__name__}; fold a "
                "layer that was replaced before, or name one of the layers inside it."
            )
        if layer.padding_mode != "zeros" or isinstance(layer.padding, str) or max(layer.dilation) > 1:
            raise UserError(
                f"A convolution is replaced if it pads with a number of zeros and is not dilated, and this is {layer}."
            )
        options = {name: getattr(layer, name) for name in ("stride", "padding", "groups")}
        return Form(type(layer), options, depthwise=bool(1 < options["groups"] == layer.out_channels))

    @property
    def grouped(self) -> bool:
        return bool(self.options.get("groups", 1) > 1)

    def groups(self, out_channels: int) -> int:
        """The groups of a convolution with this many output channels; each is one of them if it is depthwise."""
        return out_channels if self.depthwise else int(self.options.get("groups", 1))

    @property
    def dense(self) -> bool:
        """Whether it is a dense layer, on channels-last tokens."""
        return not self.options

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if self.dense:
            return F.linear(x, weight, bias)
        return convolution(x, weight, bias, **{**self.options, "groups": self.groups(len(weight))})

    def combine(self, x: Tensor, matrix: Tensor) -> Tensor:
        """``matrix`` times the channels of each place of ``x``."""
        if self.dense:
            return F.linear(x, matrix)
        dimensions = x.ndim - 2
        return convolution(x, matrix.view(*matrix.shape, *[1] * dimensions), None, [1] * dimensions, [0] * dimensions)

    def channels(self, vector: Tensor, dimensions: int) -> Tensor:
        """``vector``, one value per output channel, in a shape that a result of ``dimensions`` axes takes."""
        return vector if self.dense else vector.view(-1, *[1] * (dimensions - 2))

    def build(self, weight: Tensor, bias: Tensor | None, *, learns: bool = True) -> Plain:
        """The plain layer of this form with these weights."""
        out_features, in_features, *kernel = weight.shape
        options = dict(self.options)
        if kernel:
            options |= {"kernel_size": tuple(kernel), "groups": self.groups(out_features)}
            in_features *= options["groups"]
        layer: Plain = self.kind(in_features, out_features, **options, bias=bias is not None, device="meta")
        layer.weight = nn.Parameter(weight.contiguous(), requires_grad=learns)
        layer.bias = None if bias is None else nn.Parameter(bias.contiguous(), requires_grad=learns)
        return layer


def refresh_sizes(module: nn.Module) -> None:
    """Make a layer's own record of its sizes agree with its tensors again."""
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        depthwise = module.groups == module.out_channels and module.groups > 1
        module.out_channels = module.weight.shape[0]
        if depthwise:
            module.groups = module.out_channels
        module.in_channels = module.weight.shape[1] * module.groups
    elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
        assert isinstance(module.weight, torch.Tensor)
        module.num_features = module.weight.shape[0]
