"""Augmentation of a whole batch at once, as tensor operations.

Every random number comes from the NumPy generator that is passed in, so a batch is a function of its seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from numpy.typing import NDArray
from torch import Tensor

from formwright.data.splits import evenly_spaced

if TYPE_CHECKING:
    from formwright.data.images import ImageData


@dataclass(frozen=True)
class Augmentation:
    """What is done to training pictures; the default is nothing.

    - ``flip``: each picture is mirrored left to right in every second epoch, half of them in the first.
    - ``shift``: each is moved by up to so many pixels in both directions; what comes in at the border is the picture
      reflected, or the grey level ``fill`` (0..255) where one is given.
    - ``erase``: the share of pictures in which a rectangle of 2 to 25 % of the area is set to the mean.
    - ``mixup``, ``cutmix``: the parameter of the Beta distribution that blends pictures, or pastes rectangles, of one
      into another; 0 is off, and with both on each batch gets either.

    Source: shift as in Deep Residual Learning (arXiv 1512.03385), alternating flips (2404.00498), Random Erasing
    (1708.04896), mixup (1710.09412), CutMix (1905.04899).
    """

    flip: bool = False
    shift: int = 0
    fill: int | None = None
    erase: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0


def infer_augmentation(data: ImageData) -> Augmentation:
    """The cautious choice for ``data``: what is unlikely to change a class.

    Mirroring for colour pictures only: grey ones are often characters, scans or spectrograms, in which left and right
    matter. Shifts by a sixteenth of the shorter side, one pixel at least: in few epochs less says more. What comes in
    is the border's most frequent grey level if at least half of the training pictures' border pixels have it, as around
    characters and objects on a plain ground, otherwise the reflected picture. No erasing or mixing: short trainings
    lose by them.
    """
    images = data.images[evenly_spaced(data.split.train, 2_000)]
    edges = np.concatenate([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], axis=1)
    plain = edges[(edges == edges[..., :1]).all(axis=-1)][:, 0]
    counts = np.bincount(plain, minlength=256)
    share = counts.max() / (edges.size / edges.shape[-1])
    return Augmentation(
        flip=data.channels == 3,
        shift=max(1, min(data.size) // 16),
        fill=int(counts.argmax()) if share >= 0.5 else None,
    )


def gather_views(
    images: UInt8[Tensor, "all height width channels"],
    indices: Int[Tensor, " batch"],
    augmentation: Augmentation,
    random: np.random.Generator,
    mirrored: Bool[Tensor, " batch"] | None = None,
) -> UInt8[Tensor, "batch height width channels"]:
    """Pick pictures by ``indices``, shifted, and mirrored where ``mirrored`` says so, with one gather of pixels."""
    count, height, width, channels = images.shape
    if not augmentation.shift and mirrored is None:
        return images.index_select(0, indices)
    batch = len(indices)
    shift = augmentation.shift
    offsets = torch.from_numpy(random.integers(-shift, shift, (2, batch, 1), endpoint=True))
    rows = torch.arange(height) + offsets[0]
    columns = torch.arange(width) + offsets[1]
    if mirrored is not None:
        columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    inside_rows, inside_columns = _reflect(rows, height), _reflect(columns, width)
    pixels = ((indices[:, None] * height + inside_rows) * width)[:, :, None] + inside_columns[:, None, :]
    views = images.reshape(count * height * width, channels).index_select(0, pixels.reshape(-1))
    if augmentation.fill is not None and shift:
        outside = (rows != inside_rows)[:, :, None] | (columns != inside_columns)[:, None, :]
        views.index_fill_(0, outside.reshape(-1).nonzero()[:, 0], augmentation.fill)
    return views.reshape(batch, height, width, channels)


def _reflect(positions: Int[Tensor, "batch size"], size: int) -> Int[Tensor, "batch size"]:
    """Positions mirrored at the first and last pixel into ``0..size-1`` (the edge pixel itself is not repeated)."""
    if size == 1:
        return torch.zeros_like(positions)
    period = 2 * (size - 1)
    folded = positions.remainder(period)
    return torch.minimum(folded, period - folded)


def erase(images: Float[Tensor, "batch channels height width"], share: float, random: np.random.Generator) -> None:
    """Set a rectangle of 2 to 25 % of the area, sides 1:3 to 3:1, to zero (the mean) in ``share`` of the pictures."""
    batch, _, height, width = images.shape
    area = random.uniform(0.02, 0.25, batch)
    ratio = np.exp(random.uniform(-np.log(3.0), np.log(3.0), batch))
    chosen = random.random(batch) < share
    rows = np.sqrt(area * ratio) * chosen
    columns = np.sqrt(area / ratio) * chosen
    inside = _rectangles(rows, columns, height, width, random)
    images.masked_fill_(inside[:, None], 0.0)


def _rectangles(
    row_share: NDArray[np.float64],
    column_share: NDArray[np.float64],
    height: int,
    width: int,
    random: np.random.Generator,
) -> Tensor:
    """Boolean masks ``(batch, height, width)`` of rectangles with the given shares of the sides, placed anywhere."""
    masks = []
    for share, size in ((row_share, height), (column_share, width)):
        length = np.minimum(np.round(share * size), size)
        start = np.floor(random.random(len(share)) * (size - length + 1))
        place = np.arange(size)
        masks.append(torch.from_numpy((place >= start[:, None]) & (place < (start + length)[:, None])))
    return masks[0][:, :, None] & masks[1][:, None, :]


def mix(
    images: Float[Tensor, "batch channels height width"],
    labels: Int[Tensor, " batch"],
    classes: int,
    augmentation: Augmentation,
    random: np.random.Generator,
) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, "batch classes"]]:
    """Blend each picture with its neighbour in the batch, or paste a rectangle of it; labels become probabilities."""
    use_cutmix = augmentation.cutmix > 0 and (augmentation.mixup <= 0 or random.random() < 0.5)
    partner, partner_labels = images.roll(1, 0), labels.roll(1, 0)
    if use_cutmix:
        side = np.sqrt(1 - random.beta(augmentation.cutmix, augmentation.cutmix, 1))
        inside = _rectangles(side, side, images.shape[2], images.shape[3], random)
        images = torch.where(inside[:, None], partner, images)
        keep = 1.0 - float(inside.float().mean())
    else:
        keep = float(random.beta(augmentation.mixup, augmentation.mixup))
        images = torch.lerp(partner, images, keep)
    own, other = (torch.nn.functional.one_hot(values, classes).float() for values in (labels, partner_labels))
    return images, torch.lerp(other, own, keep)
