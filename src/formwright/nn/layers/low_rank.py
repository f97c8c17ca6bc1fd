"""A product through fewer channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.nn.functional.dense import dense
from formwright.nn.layers.base import LAYERS, Layer, check_tensor, effective_bias, effective_weight, locate
from formwright.nn.layers.plain import PLAIN, Form
from formwright.nn.layers.scaling import scalable, scale_input, scale_output

_CONVOLUTIONS = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}


def check_rank(rank: int, weight: Tensor) -> None:
    """Refuse a number of channels that a layer cannot be brought down to.

    Raises:
        UserError: the rank is no whole number, below 1 or above the smaller side of the layer.
    """
    rows, columns = weight.shape[0], weight[0].numel()
    if not isinstance(rank, int) or isinstance(rank, bool):
        raise UserError(f"A rank is a whole number of channels, got {rank!r}.")
    if not 1 <= rank <= min(rows, columns):
        raise UserError(
            f"A layer of {columns} to {rows} channels has a rank from 1 to {min(rows, columns)}, and {rank} was asked "
            "for."
        )


@LAYERS.register("low_rank")
class LowRank(Layer):
    """``y = up(down(x))`` with ``W ≈ up down``: ``rank (in + out)`` weights where there were ``in out``.

    ``up = U sqrt(S)`` and ``down = sqrt(S) Vᵀ`` with the ``rank`` largest singular values ``S`` of ``W``: the nearest
    matrix of that rank. A convolution becomes one of the same kernel to ``rank`` channels, and one of kernel 1. Both
    ``down`` and ``up`` are plain layers, which may be replaced again.

    Args:
        layer: what it takes the place of; a convolution without groups.
        rank: channels between ``down`` and ``up``.

    Shapes: those of ``layer``. Source: Exploiting Linear Structure Within Convolutional Networks, arXiv 1404.0736.

    Raises:
        UserError: the rank is above the smaller side, or the layer is a convolution in groups.
    """

    def __init__(self, layer: nn.Module, *, rank: int) -> None:
        super().__init__(layer)
        assert isinstance(layer, PLAIN)
        if self.form.grouped:
            raise UserError("A convolution in groups has no low rank; choose one without groups.")
        check_rank(rank, layer.weight)
        up, down = factors(layer.weight.detach(), rank)
        learns = layer.weight.requires_grad
        combine = self.form if self.form.dense else Form(_CONVOLUTIONS[down.ndim], {"stride": 1})
        self.down = self.form.build(down, None, learns=learns)
        self.up = combine.build(up, None, learns=learns)
        self.up.bias = layer.bias

    def forward(self, x: Tensor) -> Tensor:
        return dense(self.up, dense(self.down, x))

    def locate(self, name: str, dimension: int) -> tuple[tuple[str, int], ...]:
        check_tensor(self, name)
        if name == "bias" or dimension == 0:
            return locate(self.up, name, dimension, "up")
        return locate(self.down, name, dimension, "down")

    def effective_weight(self) -> Tensor:
        up, down = effective_weight(self.up), effective_weight(self.down)
        return (up.flatten(1) @ down.flatten(1)).view(len(up), *down.shape[1:])

    def effective_bias(self) -> Tensor | None:
        return effective_bias(self.up)

    @property
    def scalable(self) -> bool:
        return scalable(self.down, self.up)

    def scale_input(self, scale: Tensor, shift: Tensor | None = None) -> None:
        if shift is not None:
            moved = self.effective_weight() @ shift
            scale_output(self.up, torch.ones_like(moved), moved)
        scale_input(self.down, scale)

    def scale_output(self, scale: Tensor, shift: Tensor | None = None) -> None:
        scale_output(self.up, scale, shift)


def factors(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """``up (out, rank)`` and ``down (rank, in, *kernel)``, whose product is nearest to ``weight``; kernels of 1 in up.

    Without memory for the weights (on the meta device) the shapes alone.
    """
    rows, columns = weight.shape[0], weight[0].numel()
    if weight.is_meta:
        up, down = weight.new_empty(rows, rank), weight.new_empty(rank, columns)
    else:
        wide = torch.promote_types(weight.dtype, torch.float32)
        u, s, v = torch.linalg.svd(weight.flatten(1).to(wide), full_matrices=False)
        root = s[:rank].sqrt()
        up, down = (u[:, :rank] * root).to(weight.dtype), (root[:, None] * v[:rank]).to(weight.dtype)
    return up.view(rows, rank, *[1] * (weight.ndim - 2)), down.view(rank, *weight.shape[1:])
