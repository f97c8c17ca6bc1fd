"""Samples as a report shows them: pictures, texts, lines; ``templates/shown.html.j2`` draws each."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from formwright.data.splits import evenly_spaced

THUMBNAIL = 224  # pixels: the longer side of a picture
EXCERPT = 280  # characters of a text
MOST_POINTS, MOST_LINES = 200, 4


@dataclass(frozen=True)
class ShownPicture:
    """A picture as a data address, the sides it had, and whether it is to be shown pixel for pixel."""

    kind: ClassVar[str] = "picture"
    source: str
    height: int
    width: int
    tiny: bool


@dataclass(frozen=True)
class ShownText:
    """The beginning of a text."""

    kind: ClassVar[str] = "text"
    text: str


@dataclass(frozen=True)
class ShownLines:
    """Paths in a field 100 wide and 60 high, one per variate."""

    kind: ClassVar[str] = "lines"
    paths: tuple[str, ...]


Shown: TypeAlias = ShownPicture | ShownText | ShownLines


def picture(pixels: NDArray[np.uint8]) -> ShownPicture:
    """A picture ``(height, width, channels)`` made small enough for a page."""
    height, width = pixels.shape[:2]
    return ShownPicture(png(pixels), height, width, tiny=max(height, width) < THUMBNAIL // 2)


def excerpt(text: str) -> ShownText:
    return ShownText(text[:EXCERPT])


def lines(values: NDArray[np.floating]) -> ShownLines:
    """Series ``(steps, variates)``, the first few variates."""
    return ShownLines(tuple(_path(column) for column in values.T[:MOST_LINES]))


def _path(values: NDArray[np.floating]) -> str:
    chosen = evenly_spaced(np.arange(len(values)), MOST_POINTS)
    low, high = float(values.min()), float(values.max())
    heights = 57 - 54 * (values[chosen] - low) / max(high - low, 1e-9)
    places = 100 * chosen / max(len(values) - 1, 1)
    return "M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in zip(places, heights, strict=True))


def png(pixels: NDArray[np.uint8]) -> str:
    """A picture ``(height, width, 1, 3 or 4 channels)`` as a data address, small unless it is transparent."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))
    if pixels.shape[2] != 4:
        image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
