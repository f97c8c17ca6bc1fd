"""From a picture file to a uint8 array: the one rule that training and prediction share.

Needs NumPy and Pillow only, so that a shipped model can be used without PyTorch.

The rule, in this order:

1. Upright: the EXIF orientation is applied.
2. Eight bits: what has more is scaled as :class:`~formwright.levels.Levels` says, which are found from all pictures of
   a data set. Where nothing is known, 16 bits are divided by 257, and floats must lie within 0..1.
3. Transparency is laid over white; palettes, CMYK, YCbCr and the like become RGB, or grey where one channel is asked.
4. The picture is cut and resized to the target as a :class:`~formwright.resizing.Resizing` says. Where nothing else
   is known, the largest centred box with the target's aspect ratio is cut out and resized (bicubic, antialiased), and a
   picture of the target's size passes unchanged.

A large JPEG that has not been decoded yet is decoded at a half, quarter or eighth of its size as long as its short side
stays at twice what it is resized to, or more: the result is the same picture to within a few grey levels, several times
sooner.
"""

from __future__ import annotations

import contextlib
import functools
import os
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from formwright.data.deep import deep_values, is_deep
from formwright.errors import UserError
from formwright.levels import UNKNOWN, Extent, Levels
from formwright.resizing import LARGEST_BOX, Resizing

#: Pictures with more pixels than this are refused before they are decoded (Pillow's own limit for an error).
MAX_PIXELS = 178_956_970
GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
# EPS would start Ghostscript on the user's file; the others have no decoder of their own in Pillow.
_REFUSED_FORMATS = frozenset({"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"})
_ORIENTATION = 0x0112
#: Pixels of a picture before its middle is cut out, at most: of a long strip, only that middle is resized.
_MOST_RESIZED = 1 << 24


class PictureError(UserError):
    """A file that cannot be used as a picture; ``reason`` says why in a few words."""

    def __init__(self, name: object, reason: str) -> None:
        super().__init__(
            f"{name} cannot be used as a picture ({reason}); a whole file in a format that Pillow reads is expected: "
            "repair, replace or leave out the file."
        )
        self.reason = reason


@functools.cache
def readable_formats() -> list[str]:
    """Names of the formats that are read: all of Pillow's that decode pictures by themselves, the usual ones first."""
    Image.init()
    usual = ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"]  # several of the others cannot tell quickly, and are slow
    return [*usual, *(name for name in Image.ID if name not in _REFUSED_FORMATS.union(usual))]


def readable_suffixes() -> frozenset[str]:
    """File name endings, in lower case with the dot, of the formats that are read."""
    formats = {*readable_formats(), "MPO"}
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in formats)


def open_picture(file: str | Path | BytesIO, name: object = None) -> Image.Image:
    """Open a picture without decoding it yet.

    Raises:
        PictureError: empty, of no known format, too large to be decoded safely, or not readable at all.
    """
    name = file if name is None else name
    try:
        image: Image.Image = Image.open(file, formats=readable_formats())
    except Exception as error:
        raise PictureError(name, _reason(error, file)) from error
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise PictureError(name, f"{image.width} x {image.height} pixels; at most {MAX_PIXELS:,} are decoded")
    return image


class Picture(NamedTuple):
    """A decoded picture: uint8 ``pixels (height, width, channels)``, and what the file held before it was resized."""

    pixels: NDArray[np.uint8]
    native_size: tuple[int, int]  # upright height, width
    grey: bool  # of a grey mode; a grey picture stored as RGB does not count
    deep: bool = False  # more than eight bits per channel


def read_picture(
    file: str | Path | BytesIO,
    size: tuple[int, int] | None,
    channels: int,
    name: object = None,
    *,
    resizing: Resizing = LARGEST_BOX,
    levels: Levels = UNKNOWN,
) -> Picture:
    """Read one picture file by the rule of this module.

    ``size`` is ``(height, width)``, or none for that of the file; ``channels`` 1 or 3.

    Raises:
        PictureError: see :func:`open_picture`; also when the file is truncated or damaged.
    """
    name = file if name is None else name
    with open_picture(file, name) as image:
        grey, deep = is_grey(image), is_deep(image)
        try:
            if deep:
                image = _decoded(image, file, levels)
            native_size = upright_size(image)
            return Picture(to_array(image, size or native_size, channels, resizing, levels), native_size, grey, deep)
        except PictureError as error:
            raise PictureError(name, error.reason) from error
        except Exception as error:  # the decoders raise whatever they stumble over
            raise PictureError(name, _reason(error, file)) from error


def deep_extent(file: str | Path) -> tuple[bool, Extent] | None:
    """Whether a file of more than eight bits per channel holds floats, and its extent; none for other files.

    What cannot be read, or holds values that are not finite, says nothing here: reading it tells why.
    """
    try:
        with open_picture(file) as image:
            if not is_deep(image):
                return None
            values = deep_values(image, file)
    except Exception:  # the decoders raise whatever they stumble over
        return None
    extent = Extent.of(_without_alpha(values))
    return (values.dtype.kind == "f", extent) if extent.finite else None


def to_array(
    image: Image.Image,
    size: tuple[int, int],
    channels: int,
    resizing: Resizing = LARGEST_BOX,
    levels: Levels = UNKNOWN,
) -> NDArray[np.uint8]:
    """Turn a Pillow image into a uint8 array ``(height, width, channels)`` by the rule of this module.

    ``size`` is ``(height, width)`` in pixels, ``channels`` 1 (grey) or 3 (RGB).

    Raises:
        UserError: for other numbers of channels, and for pixel values that no rule maps to eight bits.
    """
    if channels not in (1, 3):
        raise UserError(f"Pictures were asked for with {channels} channels; 1 (grey) or 3 (RGB) is expected.")
    height, width = size
    smallest = 2 * max(resizing.least((width, height)))
    image.draft(None, (smallest, smallest))  # does nothing unless `image` is a JPEG that is not decoded yet
    image.load()
    image = _flatten(_upright(image), "L" if channels == 1 else "RGB", levels)
    return np.asarray(_resized(image, (width, height), resizing), dtype=np.uint8).reshape(height, width, channels)


def _resized(image: Image.Image, target: tuple[int, int], resizing: Resizing) -> Image.Image:
    """What is kept of a picture, at the ``target``'s width and height."""
    interpolation = Image.Resampling[resizing.interpolation.upper()]
    whole = resizing.whole(image.size, target)
    if whole == target or whole[0] * whole[1] > _MOST_RESIZED:
        box = resizing.kept(image.size, target)
        if image.size == target and box == (0, 0, *target):
            return image
        return image.resize(target, interpolation, box=box)
    # Pillow rounds to whole grey levels between the two directions: so it is to be the whole first.
    left, top = resizing.corner(whole, target)
    return image.resize(whole, interpolation).crop((left, top, left + target[0], top + target[1]))


def upright_size(image: Image.Image) -> tuple[int, int]:
    """``(height, width)`` of a picture once its EXIF orientation is applied; nothing is decoded."""
    return (image.width, image.height) if _orientation(image) >= 5 else (image.height, image.width)


def is_grey(image: Image.Image) -> bool:
    """Whether the picture's mode holds one channel (a grey picture stored as RGB does not count)."""
    return image.mode in GREY_MODES


def _orientation(image: Image.Image) -> int:
    with contextlib.suppress(Exception):  # a damaged EXIF block says nothing about the pixels
        return int(image.getexif().get(_ORIENTATION, 1))
    return 1


def _upright(image: Image.Image) -> Image.Image:
    return ImageOps.exif_transpose(image) if 2 <= _orientation(image) <= 8 else image


def _flatten(image: Image.Image, mode: str, levels: Levels) -> Image.Image:
    """Eight bits, no transparency, no palette."""
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_eight_bits(np.asarray(image), levels))
    if image.has_transparency_data:
        layers = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers)
    return image if image.mode == mode else image.convert("RGB").convert(mode)


def _decoded(image: Image.Image, file: str | Path | BytesIO, levels: Levels) -> Image.Image:
    """A picture of more than eight bits with eight, as it lies in the file."""
    values, orientation = deep_values(image, file), _orientation(image)  # which decodes a PNG in Pillow's way
    pixels = _eight_bits(_without_alpha(values), levels)
    if values.ndim == 3 and values.shape[2] in (2, 4):
        pixels = np.concatenate((pixels, (values[..., -1:] >> 8).astype(np.uint8)), axis=2)
    decoded = Image.fromarray(pixels)
    decoded.getexif()[_ORIENTATION] = orientation
    return decoded


def _without_alpha(values: NDArray[Any]) -> NDArray[Any]:
    return values[..., :-1] if values.ndim == 3 and values.shape[2] in (2, 4) else values


def _eight_bits(values: NDArray[Any], levels: Levels) -> NDArray[np.uint8]:
    try:
        return levels.eight_bits(values)
    except ValueError as error:
        raise PictureError("The picture", str(error)) from error


def _reason(error: Exception, file: object) -> str:
    if isinstance(file, str | Path):
        with contextlib.suppress(OSError):
            if Path(file).stat().st_size == 0:
                return "the file is empty"
    match error:
        case PermissionError():
            return "no permission to read it"
        case FileNotFoundError() if isinstance(file, str | Path) and os.path.islink(file):
            return f"a link to {os.readlink(file)}, and there is no such file"
        case FileNotFoundError():
            return "there is no such file"
        case IsADirectoryError():
            return "it is a folder"
        case Image.DecompressionBombError():
            return f"more than {MAX_PIXELS:,} pixels, too many to decode"
        case UnidentifiedImageError():
            return "its content is in no picture format that is read"
        case MemoryError():
            return "not enough memory to decode it"
        case _ if "truncated" in str(error).lower():
            return "the file is truncated"
        case _:
            return f"damaged: {str(error) or type(error).__name__}"
