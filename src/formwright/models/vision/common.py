"""What the vision families share when they describe themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from formwright.errors import UserError
from formwright.nn.specification import ImageInput, PartSpec, part
from formwright.shapes import PictureShape


def image_input(channels: int, image_size: int | tuple[int, int]) -> ImageInput:
    """The input of a model for square images of a side, or of a height and a width."""
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(size) != 2 or min(size) < 1 or channels < 1:
        raise UserError(
            f"Images need a positive height, width and channels, got size {image_size}, {channels} channels."
        )
    return ImageInput(channels, (size[0], size[1]))


def check_stages(**per_stage: Sequence[object]) -> None:
    """Refuse options of a model whose number of entries is not the number of stages.

    Raises:
        UserError: names the options and their lengths.
    """
    if len({len(values) for values in per_stage.values()}) > 1:
        given = ", ".join(f"{len(values)} {name}" for name, values in per_stage.items())
        raise UserError(f"One entry a stage is needed in each of these, got {given}.")


def drop_path_rates(rate: float, depths: Sequence[int]) -> list[list[float]]:
    """Stochastic-depth rates that grow linearly from 0 to ``rate`` over all blocks, a list for each stage."""
    total = sum(depths)
    flat = [rate * index / max(total - 1, 1) for index in range(total)]
    rates = []
    for depth in depths:
        rates.append(flat[:depth])
        flat = flat[depth:]
    return rates


def fitted(shape: PictureShape) -> dict[str, Any]:
    """Options of a model that takes pictures of a shape."""
    return {"classes": shape.classes, "channels": shape.channels, "image_size": shape.size}


def stage_widths(width: int, stages: int, multiple: int = 8) -> tuple[int, ...]:
    """Channels of each stage: 1, 2, 3.5 and 5 times the first, in whole heads or vectors."""
    factors = (1.0, 2.0, 3.5, 5.0)[:stages]
    return tuple(max(multiple, round(width * factor / multiple) * multiple) for factor in factors)


def overlapping_patches(shape: PictureShape, **options: Any) -> PartSpec:
    """A stem for small relatives of a model: patches one pixel wider than their distance on each side."""
    stride = shape.stem_stride
    return part("patch_embedding", kernel=stride + 2, stride=stride, padding=1, **options)
