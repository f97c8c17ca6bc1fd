"""Scale and shift around a frozen layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.nn.layers.base import LAYERS, Layer, changed, check_tensor
from formwright.nn.layers.lora import freeze_except
from formwright.nn.layers.low_rank import check_rank
from formwright.nn.layers.plain import PLAIN
from formwright.nn.layers.scaling import scaled_bias


@LAYERS.register("affine")
class Affine(Layer):
    """``y = (1 + a) W x + b̂ + b + s U relu(D x)`` around frozen ``W`` and ``b̂``; with rank 0 without the last term.

    ``a``, ``b`` and ``U`` begin at zero and ``s`` at one, so that it begins as the layer it takes the place of. Scale
    and shift fold into a plain layer, the last term does not.

    Args:
        layer: the layer to adapt; its weight and bias become this layer's, frozen.
        rank: rows of ``D`` and columns of ``U``; a convolution in groups takes none.

    Shapes: those of ``layer``; ``a`` and ``b`` one value per output channel; ``D`` has the layer's kernel, ``U`` the
    kernel 1. Source: Diffscaler, arXiv 2404.09976, whose authors released no code: where values start is our choice.

    Raises:
        UserError: the rank is above the smaller side, or the layer is a convolution in groups and the rank not 0.
    """

    bias: nn.Parameter | None
    down: nn.Parameter | None
    up: nn.Parameter | None
    factor: nn.Parameter | None

    def __init__(self, layer: nn.Module, *, rank: int = 0) -> None:
        super().__init__(layer)
        assert isinstance(layer, PLAIN)
        assert layer.bias is None or isinstance(layer.bias, nn.Parameter)
        if rank:
            check_rank(rank, layer.weight)
            if self.form.grouped:
                raise UserError(f"A convolution in groups takes a scale and a shift, and no branch of rank {rank}.")
        self.weight, self.bias = layer.weight, layer.bias
        freeze_except(self, ())
        out_features = len(layer.weight)
        self.scale = nn.Parameter(layer.weight.new_zeros(out_features))
        self.shift = nn.Parameter(layer.weight.new_zeros(out_features))
        self.down = self.up = self.factor = None
        if rank:
            self.down = nn.Parameter(layer.weight.new_empty(rank, *layer.weight.shape[1:]))
            nn.init.kaiming_uniform_(self.down, a=5**0.5)
            self.up = nn.Parameter(layer.weight.new_zeros(out_features, rank))
            self.factor = nn.Parameter(layer.weight.new_ones(1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.form(x, self.weight, self.bias)
        # The frozen bias is in y already, and is not scaled.
        shift = self.shift if self.bias is None else self.shift - self.scale * self.bias
        scale, shift = (self.form.channels(vector, y.ndim) for vector in (1 + self.scale, shift))
        y = torch.addcmul(shift, y, scale)
        if self.down is None or self.up is None or self.factor is None:
            return y
        return y + self.factor * self.form.combine(self.form(x, self.down).relu(), self.up)

    def locate(self, name: str, dimension: int) -> tuple[tuple[str, int], ...]:
        check_tensor(self, name)
        if name == "bias":
            return (("bias", dimension),)
        if dimension:
            return (("weight", dimension), ("down", dimension))
        return (("weight", 0), ("scale", 0), ("shift", 0), ("up", 0))

    def effective_weight(self) -> Tensor:
        if self.up is not None:
            raise UserError(
                "An affine layer with a branch computes what no plain layer does, so that it cannot be folded; keep "
                "it, or adapt with rank 0."
            )
        return self.weight * (1 + self.scale).view(-1, *[1] * (self.weight.ndim - 1))

    def effective_bias(self) -> Tensor | None:
        return self.shift if self.bias is None else self.bias + self.shift

    @property
    def merges(self) -> bool:
        return self.up is None

    @property
    def scalable(self) -> bool:
        return self.up is None

    def scale_input(self, scale: Tensor, shift: Tensor | None = None) -> None:
        if shift is not None:
            self.shift = changed(self.shift, self.shift + self.effective_weight() @ shift)
        self.weight = changed(self.weight, self.weight * scale)

    def scale_output(self, scale: Tensor, shift: Tensor | None = None) -> None:
        self.weight = changed(self.weight, self.weight * scale.view(-1, *[1] * (self.weight.ndim - 1)))
        if self.bias is not None:
            self.bias = changed(self.bias, self.bias * scale)
        moved = scaled_bias(self.shift, scale, shift)
        assert moved is not None
        self.shift = changed(self.shift, moved)
