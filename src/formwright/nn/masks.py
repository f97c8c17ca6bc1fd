"""Which tokens are real: masks from lengths, and masks of coarser grids."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from formwright.errors import UserError
from formwright.nn.functional.transforms import values_are_known


def mask_of_lengths(
    lengths: Int[Tensor, " batch"] | Int[Tensor, "batch axes"], size: Sequence[int]
) -> Bool[Tensor, "batch *size"]:
    """True up to each sample's length along every axis: ``mask[b, i, j] = i < lengths[b, 0] and j < lengths[b, 1]``.

    Args:
        lengths: ``(batch,)`` for one axis, ``(batch, axes)`` for several.
        size: the padded size of the batch.

    Raises:
        UserError: the number of axes does not match, or the lengths are no whole numbers, negative or beyond ``size``.
    """
    if lengths.is_floating_point():
        raise UserError(f"Lengths are whole numbers, one per sample and axis, and got {lengths.dtype}.")
    by_axis = lengths[:, None] if lengths.ndim == 1 else lengths
    if by_axis.shape[1] != len(size):
        raise UserError(
            f"Lengths of {by_axis.shape[1]} axes were given for samples of {len(size)}; give one per sample and axis."
        )
    if values_are_known(lengths) and bool(((by_axis < 0) | (by_axis > by_axis.new_tensor(size))).any()):
        raise UserError(
            f"Lengths lie between 0 and the size of the batch, {' x '.join(map(str, size))}; got {lengths.tolist()}."
        )
    mask = torch.ones((), dtype=torch.bool, device=lengths.device)
    for axis, side in enumerate(size):
        within = torch.arange(side, device=lengths.device) < by_axis[:, axis, None]
        mask = mask & within.view(-1, *[1] * axis, side, *[1] * (len(size) - axis - 1))
    return mask


def coarser_mask(
    mask: Bool[Tensor, "batch *grid"], kernel: int, stride: int, padding: int
) -> Bool[Tensor, "batch *coarser_grid"]:
    """Which outputs of a strided convolution are real: as many as the real inputs alone would give.

    A row of ``n`` real inputs gives ``(n + 2 padding - kernel) // stride + 1`` of them; for other masks, an output is
    real if the last input that it needs is.
    """
    for axis in range(1, mask.ndim):
        side = mask.shape[axis]
        last = torch.arange((side + 2 * padding - kernel) // stride + 1, device=mask.device) * stride
        last = (last + kernel - 1 - 2 * padding).clamp(min=0)
        mask = mask.index_select(axis, last)
    return mask


def finer_mask(mask: Bool[Tensor, "batch *grid"], stride: int) -> Bool[Tensor, "batch *finer_grid"]:
    """Which places of a grid ``stride`` times as fine are real: those of real tokens."""
    for axis in range(1, mask.ndim):
        mask = mask.repeat_interleave(stride, dim=axis)
    return mask
