"""Low-rank adaptation: a frozen layer and a small one beside it that learns."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from formwright.errors import UserError
from formwright.nn.layers.base import LAYERS, Layer, changed, check_tensor
from formwright.nn.layers.low_rank import check_rank
from formwright.nn.layers.plain import PLAIN
from formwright.nn.layers.scaling import scaled_bias


@LAYERS.register("lora")
class LoRA(Layer):
    """``y = W x + b + (alpha / rank) B A dropout(x)``; it begins as the layer it takes the place of, as ``B = 0``.

    Args:
        layer: the layer to adapt; its weight and bias become this layer's, frozen. A convolution without groups.
        rank: rows of ``A`` and columns of ``B``.
        alpha: the numerator of the factor; ``rank`` if unset.
        dropout: share of what the small layer sees that is dropped in training.

    Shapes: those of ``layer``; ``A`` has the layer's kernel, ``B`` the kernel 1. Source: LoRA, arXiv 2106.09685.

    Raises:
        UserError: the rank is above the smaller side, or the layer is a convolution in groups.
    """

    bias: nn.Parameter | None

    def __init__(self, layer: nn.Module, *, rank: int = 16, alpha: float | None = None, dropout: float = 0.0) -> None:
        super().__init__(layer)
        assert isinstance(layer, PLAIN)
        assert layer.bias is None or isinstance(layer.bias, nn.Parameter)
        if self.form.grouped:
            raise UserError("A convolution in groups takes no LoRA; choose one without groups.")
        check_rank(rank, layer.weight)
        self.weight, self.bias = layer.weight, layer.bias
        freeze_except(self, ())
        self.factor = 1.0 if alpha is None else alpha / rank
        self.lora_a = nn.Parameter(layer.weight.new_empty(rank, *layer.weight.shape[1:]))
        nn.init.kaiming_uniform_(self.lora_a, a=5**0.5)
        self.lora_b = nn.Parameter(layer.weight.new_zeros(len(layer.weight), rank))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        adapted = self.form.combine(self.form(self.dropout(x), self.lora_a), self.lora_b)
        return self.form(x, self.weight, self.bias) + self.factor * adapted

    def locate(self, name: str, dimension: int) -> tuple[tuple[str, int], ...]:
        check_tensor(self, name)
        if name == "bias":
            return (("bias", dimension),)
        return (("weight", dimension), ("lora_a", dimension) if dimension else ("lora_b", 0))

    def effective_weight(self) -> Tensor:
        return self.weight + self.factor * (self.lora_b @ self.lora_a.flatten(1)).view_as(self.weight)

    def effective_bias(self) -> Tensor | None:
        return self.bias

    @property
    def merges(self) -> bool:
        return True

    @property
    def scalable(self) -> bool:
        return True

    def scale_input(self, scale: Tensor, shift: Tensor | None = None) -> None:
        if shift is not None:
            moved = self.effective_weight() @ shift
            bias = moved if self.bias is None else moved + self.bias
            self.bias = nn.Parameter(bias, requires_grad=self.weight.requires_grad)
        self.weight = changed(self.weight, self.weight * scale)
        self.lora_a = changed(self.lora_a, self.lora_a * scale)

    def scale_output(self, scale: Tensor, shift: Tensor | None = None) -> None:
        rows = scale.view(-1, *[1] * (self.weight.ndim - 1))
        bias = scaled_bias(self.bias, scale, shift)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=self.weight.requires_grad)
        self.weight = changed(self.weight, self.weight * rows)
        self.lora_b = changed(self.lora_b, self.lora_b * scale[:, None])


def freeze_except(model: nn.Module, trained: Iterable[nn.Parameter]) -> None:
    """Let only the parameters ``trained`` of ``model`` learn."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for parameter in trained:
        parameter.requires_grad_(True)
