"""Norms on channels-last tokens."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.nn.context import EMPTY, Context
from formwright.nn.functional.batch_norm import batch_norm
from formwright.nn.functional.precision import widened
from formwright.nn.functional.rms import rms_norm
from formwright.nn.functional.transforms import mapped
from formwright.nn.parts import PARTS, Axis, Part, Promises


class AffineNorm(Part):
    """Learned weight and bias of a norm; both are cut together with the residual channels, and both can be folded."""

    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(self, dim: int, *, eps: float, bias: bool, weight: bool = True) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim)) if weight else None
        self.bias = nn.Parameter(torch.zeros(dim)) if bias else None

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return {name: (Axis("residual"),) for name, _ in self.named_parameters(recurse=False)}

    def fold_into(self, part: nn.Module) -> None:
        """Let the part that comes next scale and shift, if it can."""
        if isinstance(part, Part) and self.weight is not None and part.fold_scale_before(self.weight, self.bias):
            self.weight = self.bias = None


@PARTS.register("layer_norm")
class LayerNorm(AffineNorm):
    """``(x - mean) / sqrt(var + eps) * weight + bias``, statistics over the channels of each token.

    Without ``affine`` it has neither weight nor bias.

    Shapes: ``(batch, *grid, channels)`` to the same. Source: Layer Normalization, arXiv 1607.06450.
    """

    promises: ClassVar[Promises] = Promises(per_token=True, causal=True)

    def __init__(self, dim: int, *, eps: float = 1e-5, bias: bool = True, affine: bool = True) -> None:
        super().__init__(dim, eps=eps, bias=bias and affine, weight=affine)

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"]:
        return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)


class _RootMeanSquare(AffineNorm):
    """Learned weight and bias, if any, after a division by the root mean square."""

    promises: ClassVar[Promises] = Promises(per_token=True, causal=True)

    #: whether a last channel, with which all of them sum to zero, is left out and counts
    whole: ClassVar[bool] = False

    def __init__(self, dim: int, *, eps: float = 1e-6, bias: bool = False) -> None:
        super().__init__(dim, eps=eps, bias=bias)

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"]:
        y = rms_norm(x, eps=self.eps, whole=self.whole)
        if self.weight is not None:
            y = y * self.weight
        return y if self.bias is None else y + self.bias


@PARTS.register("rms_norm")
class RMSNorm(_RootMeanSquare):
    """``x / sqrt(mean(x²) + eps) * weight (+ bias)``, the mean over the channels of each token.

    Shapes: ``(batch, *grid, channels)`` to the same. Source: Root Mean Square Layer Normalization, arXiv 1910.07467.
    """


@PARTS.register("crms_norm")
class CRMSNorm(_RootMeanSquare):
    """``x / sqrt((sum x² + (sum x)²) / (channels + 1) + eps) * weight (+ bias)``: the compressed RMS norm.

    What a layer norm makes of the vector ``(x, -sum x)``, without its last channel. A layer norm looks at vectors of
    mean zero only, so their last channel need not be kept.

    Shapes: ``(batch, *grid, channels)`` to the same. Source: Pre-RMSNorm and Pre-CRMSNorm Transformers,
    arXiv 2305.14858.
    """

    whole: ClassVar[bool] = True


@PARTS.register("group_norm")
class GroupNorm(AffineNorm):
    """Layer norm with statistics over all channels and all places of a sample (a group norm with one group).

    ``(x - mean) / sqrt(var + eps) * weight + bias``, mean and variance over ``(*grid, channels)``, weight and bias a
    channel. PoolFormer and the "modified LayerNorm" of MetaFormer baselines.

    Shapes: ``(batch, *grid, channels)`` to the same. Source: MetaFormer Is Actually What You Need for Vision,
    arXiv 2111.11418.
    """

    def __init__(self, dim: int, *, eps: float = 1e-5, bias: bool = True) -> None:
        super().__init__(dim, eps=eps, bias=bias)

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"]:
        if x.is_cpu and not torch.compiler.is_compiling() and not mapped():
            # Three times as fast as a layer norm over all axes, and five times with its backward.
            return _grouped(x, 1, self.weight, self.bias, self.eps)
        y = F.layer_norm(x, x.shape[1:], eps=self.eps)
        if self.weight is None:
            return y
        return y * self.weight if self.bias is None else torch.addcmul(self.bias, y, self.weight)


def _grouped(
    x: Float[Tensor, "batch *grid channels"], groups: int, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Float[Tensor, "batch *grid channels"]:
    """PyTorch's group norm of an image of one column in channels-last memory, which is its fastest form on a CPU."""
    column = x.flatten(1, -2).unsqueeze(2).permute(0, 3, 1, 2)
    return torch.group_norm(column, groups, weight, bias, eps).permute(0, 2, 3, 1).view(x.shape)


@PARTS.register("instance_norm")
class InstanceNorm(AffineNorm):
    """``(x - mean) / sqrt(var + eps) * weight + bias``, statistics of each channel over the places of a sample.

    A group norm with as many groups as channels; on a grid of one place its result is the bias.

    Shapes: ``(batch, *grid, channels)`` to the same; masked tokens have no part in the statistics. Source: Instance
    Normalization: The Missing Ingredient for Fast Stylization, arXiv 1607.08022.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"mask"})

    def __init__(self, dim: int, *, eps: float = 1e-5, bias: bool = True) -> None:
        super().__init__(dim, eps=eps, bias=bias)

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"]:
        if context.mask is None and not mapped():
            return _grouped(x, x.shape[-1], self.weight, self.bias, self.eps)
        real = torch.ones_like(x[..., 0], dtype=torch.bool) if context.mask is None else context.mask
        real = real.flatten(1).unsqueeze(-1)
        tokens = widened(x).flatten(1, -2)
        count = real.sum(1, keepdim=True).clamp(min=1)
        centred = (tokens - (tokens * real).sum(1, keepdim=True) / count) * real
        y = centred * torch.rsqrt(centred.square().sum(1, keepdim=True) / count + self.eps)
        if self.weight is not None:
            y = y * self.weight
        return (y if self.bias is None else y + self.bias).to(x.dtype).view(x.shape)


@PARTS.register("batch_norm")
class BatchNorm(Part):
    """Batch norm over all real tokens of the batch, one channel at a time; running statistics in eval mode.

    Shapes: ``(batch, *grid, channels)`` to the same; in training, tokens that ``context.mask`` says are padding have no
    part in the statistics. Source: Batch Normalization, arXiv 1502.03167.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"mask"})
    promises: ClassVar[Promises] = Promises(per_token=True)

    def __init__(self, dim: int, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(dim, eps=eps)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        names = ("weight", "bias", "running_mean", "running_var")
        return {f"norm.{name}": (Axis("residual"),) for name in names}

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"]:
        return batch_norm(self.norm, x, context.mask)


@PARTS.register("identity")
class Identity(Part):
    """``y = x``: the token mixer of IdentityFormer, and the part to put where there is nothing to do."""

    promises: ClassVar[Promises] = Promises(per_token=True, causal=True)

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"]:
        return x
