"""Coloured shapes on clutter: pictures in which objects are to be found, with their boxes and outlines."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from formwright.data.detection import DetectionData
from formwright.errors import UserError
from formwright.nn.functional.boxes import NO_OBJECT

#: What the classes are, in their order.
SHAPES = ("disc", "square", "triangle")
_TRIES = 50


def coloured_shapes(count: int, *, side: int = 64, most: int = 3, seed: int = 0) -> DetectionData:
    """Pictures of up to ``most`` discs, squares and triangles of any vivid colour, on noise, streaks and dull patches.

    A picture has no object as often as it has any other number of them. A shape is a fifth to two fifths of the side
    wide and lies inside the picture; two shapes share no pixel.

    Args:
        count: number of pictures.
        side: of a picture, in pixels.
        most: the largest number of objects.
        seed: decides all.

    Raises:
        UserError: there are no pictures, or a side is too short to tell shapes apart.
    """
    if count < 1 or side < 24 or most < 1:
        raise UserError(
            f"Shapes need at least one picture with sides of at least 24 and room for one of them; got {count} "
            f"pictures, side={side} and most={most}."
        )
    random = np.random.default_rng([seed, side, most])
    images = np.empty((count, side, side, 3), np.uint8)
    masks = np.zeros((count, side, side), np.uint8)
    classes = np.full((count, most), NO_OBJECT, np.int64)
    boxes = np.zeros((count, most, 4), np.float32)
    for index in range(count):
        picture = _clutter(random, side)
        for number in range(random.integers(most + 1)):
            kind, inside = _place(random, side, masks[index])
            if inside is None:
                break
            masks[index][inside] = number + 1
            picture[inside] = _vivid(random)
            classes[index, number] = kind
            boxes[index, number] = box_of(inside)
        noise = random.normal(0, 12, picture.shape)
        images[index] = np.clip(np.round(picture + noise), 0, 255).astype(np.uint8)
    return DetectionData(images, classes, boxes, len(SHAPES), masks)


def box_of(inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The smallest box around all places of a mask ``(height, width)``: centre, width and height as shares."""
    low, high = [], []
    for axis in (1, 0):  # x first
        places = np.flatnonzero(inside.any(1 - axis))
        low.append(places[0] / inside.shape[axis])
        high.append((places[-1] + 1) / inside.shape[axis])
    (left, top), (right, bottom) = low, high
    return np.array([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], np.float32)


def _place(random: np.random.Generator, side: int, taken: NDArray[np.uint8]) -> tuple[int, NDArray[np.bool_] | None]:
    """A class, and the pixels of a shape of it where nothing is yet; none where no room was found."""
    kind = int(random.integers(len(SHAPES)))
    rows, columns = np.mgrid[:side, :side] + 0.5
    for _ in range(_TRIES):
        half = random.uniform(0.1, 0.2) * side
        y, x = random.uniform(half, side - half, 2)
        down, right = rows - y, columns - x
        if kind == 0:
            inside = np.hypot(down, right) <= half
        elif kind == 1:
            inside = np.maximum(abs(down), abs(right)) <= half
        else:
            inside = (down <= half) & (2 * abs(right) <= down + half)
        if not (taken[inside] > 0).any():
            return kind, inside
    return kind, None


def _vivid(random: np.random.Generator) -> NDArray[np.floating[Any]]:
    """A colour with one channel bright, one dark and one anything between."""
    levels = np.array([random.uniform(200, 255), random.uniform(0, 55), random.uniform(0, 255)])
    return random.permutation(levels)


def _clutter(random: np.random.Generator, side: int) -> NDArray[np.floating[Any]]:
    """A dull ground with dull patches and thin streaks of any colour."""
    picture = np.full((side, side, 3), random.uniform(60, 190))
    for _ in range(6):
        corner, size = random.integers(0, side, 2), random.integers(side // 10, side // 3, 2)
        inside = tuple(slice(start, start + length) for start, length in zip(corner, size, strict=True))
        picture[inside] = random.uniform(60, 190) + random.uniform(-15, 15, 3)
    rows, columns = np.mgrid[:side, :side] + 0.5
    for _ in range(4):
        angle, (y, x) = random.uniform(0, np.pi), random.uniform(0, side, 2)
        streak = abs((rows - y) * np.cos(angle) - (columns - x) * np.sin(angle)) < side / 64
        picture[streak] = _vivid(random)
    return picture
