"""Picture files with more than eight bits per channel: their values as they are in the file.

Pillow gives grey files of 16 bits and of floats whole, and of colour files of 16 bits the upper byte only. Here the
lower byte is decoded, too: as if the file's bytes were in the other order.
"""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_GREY_AND_ALPHA = "LA;16B"
_OTHER_ORDER = {"16B": "16L", "16L": "16B", "16N": "16B" if sys.byteorder == "little" else "16L"}


def is_deep(image: Image.Image) -> bool:
    """Whether a picture, opened and not decoded yet, has more than eight bits per channel."""
    return image.mode.startswith("I") or image.mode == "F" or _raw_mode(image) is not None


def deep_values(image: Image.Image, file: str | Path | BytesIO) -> NDArray[Any]:
    """The values of such a picture, opened from ``file``: ``(height, width)`` or ``(height, width, channels)``."""
    raw = _raw_mode(image)
    if raw is None:
        return np.asarray(image)
    if raw == _GREY_AND_ALPHA:  # four bytes per pixel, read as four channels
        _retile(image, "RGBA")
        pairs = np.asarray(image).astype(np.uint16)
        return pairs[..., ::2] << 8 | pairs[..., 1::2]
    upper = np.asarray(image).astype(np.uint16)
    if isinstance(file, BytesIO):
        file.seek(0)
    with Image.open(file, formats=[image.format or "PNG"]) as again:
        name, _, order = raw.partition(";")
        _retile(again, f"{name};{_OTHER_ORDER[order]}")
        lower = np.asarray(again)
    return upper << 8 | lower


def _raw_mode(image: Image.Image) -> str | None:
    """How the bytes of a colour file of 16 bits are laid out; none for other files."""
    tiles = getattr(image, "tile", None)
    if not tiles or image.mode not in ("RGB", "RGBA", "RGBX", "LA"):
        return None
    args = tiles[0][3]
    raw = args if isinstance(args, str) else args[0] if args else ""
    known = isinstance(raw, str) and (raw == _GREY_AND_ALPHA or raw.rpartition(";")[2] in _OTHER_ORDER)
    return raw if known else None


def _retile(image: Image.Image, raw: str) -> None:
    def changed(args: Any) -> Any:
        return raw if isinstance(args, str) else (raw, *args[1:])

    image.tile = [tile._replace(args=changed(tile.args)) for tile in image.tile]  # type: ignore[attr-defined]
