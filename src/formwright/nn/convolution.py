"""Convolutions on channels-last tokens, and the pairs of a layer and a batch norm that fold into one."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.errors import UserError
from formwright.nn.context import Context
from formwright.nn.functional.batch_norm import BatchNormModule, batch_norm
from formwright.nn.functional.convolution import convolution
from formwright.nn.functional.dense import dense
from formwright.nn.functional.depthwise import depthwise_convolution
from formwright.nn.layers.base import Layer
from formwright.nn.layers.scaling import scale_input, scale_output
from formwright.nn.parts import Axis

BATCH_NORMS: dict[int, type[nn.BatchNorm1d] | type[nn.BatchNorm2d] | type[nn.BatchNorm3d]] = {
    1: nn.BatchNorm1d,
    2: nn.BatchNorm2d,
    3: nn.BatchNorm3d,
}


def to_channels_first(x: Float[Tensor, "batch *grid channels"]) -> Float[Tensor, "batch channels *grid"]:
    """A view; in 2-D and 3-D it is PyTorch's ``channels_last`` memory format, so convolutions take it as it is."""
    return x.movedim(-1, 1)


def to_channels_last(x: Float[Tensor, "batch channels *grid"]) -> Float[Tensor, "batch *grid channels"]:
    """The inverse view; contiguous when ``x`` is in ``channels_last`` memory format."""
    return x.movedim(1, -1)


_AVERAGE_POOLS = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def average_pool(
    x: Float[Tensor, "batch channels *grid"], kernel: int, stride: int = 1, padding: int = 0, **options: bool
) -> Float[Tensor, "batch channels *coarser_grid"]:
    """PyTorch's, on 1 to 3 axes.

    Its form for three knows no bfloat16 on a CPU and no grid that is smaller than the kernel, padding or not; there two
    axes are averaged, and then the third.
    """
    if x.ndim == 5 and (x.dtype is torch.bfloat16 or min(x.shape[2:]) < kernel):
        batch, channels, depth = x.shape[:3]
        y = F.avg_pool2d(x.flatten(1, 2), kernel, stride, padding, **options)
        y = y.view(batch, channels, depth, *y.shape[2:]).movedim(2, -1)
        rows = F.avg_pool1d(y.flatten(1, -2), kernel, stride, padding, **options)
        return rows.view(*y.shape[:-1], rows.shape[-1]).movedim(-1, 2)
    return _AVERAGE_POOLS[x.ndim - 2](x, kernel, stride, padding, **options)


def zero_padding(x: Float[Tensor, "batch *grid channels"], context: Context) -> Float[Tensor, "batch *grid channels"]:
    """Masked tokens become zero, as if they lay outside the grid."""
    return x if context.mask is None else x * context.mask.unsqueeze(-1).to(x.dtype)


class Convolution1d(nn.Conv1d):
    """A convolution of ``(batch, channels, length)`` that stays inside its buffers in training on any CPU."""

    padding: tuple[int, ...]

    def forward(self, x: Float[Tensor, "batch channels length"]) -> Float[Tensor, "batch out_channels out_length"]:
        return convolution(x, self.weight, self.bias, self.stride, self.padding, self.groups)


class Convolution2d(nn.Conv2d):
    """A convolution of ``(batch, channels, height, width)`` that stays inside its buffers in training on any CPU."""

    padding: tuple[int, ...]

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch out_channels out_height out_width"]:
        return convolution(x, self.weight, self.bias, self.stride, self.padding, self.groups)


class Convolution3d(nn.Conv3d):
    """A convolution of ``(batch, channels, *grid)`` on three axes that stays inside its buffers on any CPU."""

    padding: tuple[int, ...]

    def forward(
        self, x: Float[Tensor, "batch channels depth height width"]
    ) -> Float[Tensor, "batch out_channels out_depth out_height out_width"]:
        return convolution(x, self.weight, self.bias, self.stride, self.padding, self.groups)


#: The layers of all strided convolutions, by the number of axes.
CONVOLUTIONS: dict[int, type[Convolution1d] | type[Convolution2d] | type[Convolution3d]] = {
    1: Convolution1d,
    2: Convolution2d,
    3: Convolution3d,
}


class DepthwiseConv1d(nn.Conv1d):
    """A convolution of each channel of ``(batch, channels, length)`` by itself, trained fast on a CPU."""

    def forward(self, x: Float[Tensor, "batch channels length"]) -> Float[Tensor, "batch channels out_length"]:
        return depthwise_convolution(x, self.weight, self.bias, self.stride[0])


class DepthwiseConv2d(nn.Conv2d):
    """A convolution of each channel of ``(batch, channels, height, width)`` by itself, trained fast on a CPU."""

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels out_height out_width"]:
        return depthwise_convolution(x, self.weight, self.bias, self.stride[0])


_DEPTHWISE: dict[int, type[nn.Conv1d] | type[nn.Conv2d] | type[nn.Conv3d]] = {
    1: DepthwiseConv1d,
    2: DepthwiseConv2d,
    3: Convolution3d,
}


def depthwise_layer(
    dim: int, kernel: int, *, stride: int = 1, bias: bool = True, dimensions: int = 2
) -> nn.Conv1d | nn.Conv2d | nn.Conv3d:
    """A convolution of each channel by itself that keeps the grid but for the stride, on ``(batch, dim, *grid)``.

    Raises:
        UserError: ``kernel`` is even, or ``dimensions`` is not 1, 2 or 3.
    """
    if kernel % 2 == 0:
        raise UserError(f"A depthwise convolution that keeps the grid needs an odd kernel, got {kernel}.")
    if dimensions not in _DEPTHWISE:
        raise UserError(f"Convolutions exist on grids of 1, 2 or 3 dimensions, got {dimensions}.")
    return _DEPTHWISE[dimensions](dim, dim, kernel, stride, kernel // 2, groups=dim, bias=bias)


def keep_kernels_channels_last(model: nn.Module) -> None:
    """Lay the kernels of 2-D convolutions out as the tokens that they meet, or each call would do it again.

    Shapes and values stay; a kernel loaded or trained later keeps the layout.
    """
    for module in model.modules():
        for kernel in module.parameters(recurse=False) if isinstance(module, nn.Conv2d | Layer) else ():
            if kernel.ndim == 4:
                kernel.data = kernel.data.contiguous(memory_format=torch.channels_last)


def fold_batch_norm(layer: nn.Module, norm: nn.Module) -> bool:
    """Make ``layer`` in place what it and the batch norm after it are together in inference.

    Returns:
        Whether it could; a layer that was replaced may not.
    """
    return scale_output(layer, *scale_and_shift(norm))


class ConvNorm(nn.Module):
    """Convolution without bias, then batch norm, on ``(batch, channels, *grid)``; one convolution after folding.

    ``y = gamma * (conv(x) - mean) / sqrt(var + eps) + beta``, which in inference is a convolution with the weight
    ``gamma / sqrt(var + eps) * W`` and the bias ``beta - gamma * mean / sqrt(var + eps)``.
    """

    norm: BatchNormModule | None

    def __init__(
        self,
        in_dim: int,
        dim: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        padding: int | None = None,
        groups: int = 1,
        bias: bool = False,
        eps: float = 1e-5,
        norm_weight: float = 1.0,
        dimensions: int = 2,
    ) -> None:
        super().__init__()
        padding = kernel // 2 if padding is None else padding
        if groups == in_dim == dim and 2 * padding + 1 == kernel:
            self.conv = depthwise_layer(dim, kernel, stride=stride, bias=bias, dimensions=dimensions)
        else:
            self.conv = CONVOLUTIONS[dimensions](in_dim, dim, kernel, stride, padding, groups=groups, bias=bias)
        norm: BatchNormModule = BATCH_NORMS[dimensions](dim, eps=eps)
        nn.init.constant_(norm.weight, norm_weight)
        self.norm = norm

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Of ``(batch, channels, *grid)``; ``mask`` is true where tokens of the result are real."""
        x = self.conv(x)
        if self.norm is None:
            return x
        masked = mask is not None and self.training
        return self.norm(x) if not masked else to_channels_first(batch_norm(self.norm, to_channels_last(x), mask))

    def init_weights(self) -> None:
        """He's rule, as for every network that is normed by its batches: the 0.02 of Transformers is too small here."""
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    @torch.no_grad()
    def fold(self) -> None:
        """Become one convolution with bias, in place."""
        if self.norm is not None and fold_batch_norm(self.conv, self.norm):
            self.norm = None


class LinearNorm(nn.Module):
    """Dense layer without bias, then batch norm, on channels-last tokens; one dense layer after folding.

    It is a :class:`ConvNorm` of kernel 1 on ``(batch, *grid, channels)``.
    """

    norm: nn.BatchNorm1d | None

    def __init__(self, in_dim: int, dim: int, *, eps: float = 1e-5, norm_weight: float = 1.0) -> None:
        super().__init__()
        self.linear = nn.Linear(in_dim, dim, bias=False)
        self.norm = nn.BatchNorm1d(dim, eps=eps)
        nn.init.constant_(self.norm.weight, norm_weight)

    def forward(
        self, x: Float[Tensor, "*tokens in_channels"], mask: Bool[Tensor, "*tokens"] | None = None
    ) -> Float[Tensor, "*tokens channels"]:
        x = dense(self.linear, x)
        return x if self.norm is None else batch_norm(self.norm, x, mask)

    def init_weights(self) -> None:
        """As :meth:`ConvNorm.init_weights`."""
        nn.init.kaiming_normal_(self.linear.weight, mode="fan_out", nonlinearity="relu")

    @torch.no_grad()
    def fold(self) -> None:
        """Become one dense layer with bias, in place."""
        if self.norm is not None and fold_batch_norm(self.linear, self.norm):
            self.norm = None


def scale_and_shift(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """What a batch norm does in eval mode, ``y = scale * x + shift``, each of one value per channel."""
    assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


def fold_into_next(norm: nn.Module, linear: nn.Module) -> bool:
    """Let ``linear`` do in place what ``linear(norm(x))`` did in eval mode: ``W (scale * x + shift) + b``.

    Returns:
        Whether it could; a layer that was replaced may not.
    """
    return scale_input(linear, *scale_and_shift(norm))


def norm_axes(name: str, axis: Axis) -> dict[str, tuple[Axis | None, ...]]:
    """The axes of a batch norm called ``name`` over channels that are laid out as ``axis``."""
    return {f"{name}.{leaf}": (axis,) for leaf in ("weight", "bias", "running_mean", "running_var")}


def conv_norm_axes(
    name: str, rows: Axis, columns: Axis | None, dimensions: int = 2
) -> dict[str, tuple[Axis | None, ...]]:
    """The axes of a :class:`ConvNorm` called ``name``, folded or not; ``columns`` are unnamed in a depthwise one."""
    return {
        f"{name}.conv.weight": (rows, columns, *[None] * dimensions),
        **norm_axes(f"{name}.norm", rows),
    }


def linear_norm_axes(name: str, rows: Axis, columns: Axis | None) -> dict[str, tuple[Axis | None, ...]]:
    """The axes of a :class:`LinearNorm` called ``name``, folded or not."""
    return {
        f"{name}.linear.weight": (rows, columns),
        **norm_axes(f"{name}.norm", rows),
    }
