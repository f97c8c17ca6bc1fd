"""Decoding many picture files into one uint8 array, with threads, counting what cannot be read."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from formwright.data.deep import is_deep
from formwright.data.preprocess import PictureError, deep_extent, is_grey, open_picture, read_picture, upright_size
from formwright.data.splits import evenly_spaced
from formwright.errors import UserError
from formwright.levels import UNKNOWN, Levels, joined
from formwright.resizing import LARGEST_BOX, Resizing

if TYPE_CHECKING:
    from formwright.models.preprocessing import Preprocessing

Outcome = TypeVar("Outcome")
Progress = Callable[[int, int], None]
Size = tuple[int, int]  # height, width

#: Arrays above this many bytes are kept in an unnamed temporary file that is mapped into memory.
MEMORY_LIMIT = 2 << 30
#: The longest side that is chosen without being asked for: what most models of the field are trained at.
MAX_SIDE = 224
#: Pictures are enlarged for weights of larger ones, but no more than so many times.
MOST_ENLARGED = 2.0
_SAMPLE = 1_000
_CHUNK = 64


class Header(NamedTuple):
    """What a file says before its pixels are decoded.

    Upright size in pixels, whether its mode is grey, and whether it has more than eight bits per channel.
    """

    size: Size
    grey: bool
    deep: bool = False


@dataclass(frozen=True)
class Form:
    """The size and channels that all pictures are brought to, how, and how that was decided."""

    size: Size
    channels: int
    note: str
    resizing: Resizing = LARGEST_BOX
    levels: Levels = UNKNOWN


@dataclass(frozen=True)
class Wishes:
    """What is asked for of pictures before they are read; the rest is inferred.

    Attributes:
        size: height and width.
        channels: 1 or 3.
        max_side: of the size, where it is inferred.
        prepared: how pictures were prepared for the weights that models start from.
        least_side: the shortest one that these models can take.
    """

    size: Size | None = None
    channels: int | None = None
    max_side: int = MAX_SIDE
    prepared: Preprocessing | None = None
    least_side: int = 1


def infer_form(headers: Sequence[Header], wishes: Wishes) -> Form:
    """Choose what was not asked for.

    The size that weights were trained with, and their way to resize, where pictures need not be enlarged more than
    twice for it, where the median short side is at least half of its shorter one, or the models take none that is as
    small as they are. Else the native size if all pictures
    share it and it is at most ``max_side``; otherwise a square whose side is the median short side, rounded to a
    multiple of 8 (16 from 64, 32 from 128 pixels), at most ``max_side``. One channel if every picture is grey, else
    three.
    """
    sizes = {header.size for header in headers}
    median = float(np.median([min(header.size) for header in headers])) if headers else 1.0
    prepared, resizing, size = wishes.prepared, LARGEST_BOX, wishes.size
    if size is not None:
        note = "as asked for"
    elif prepared is not None and (MOST_ENLARGED * median >= min(prepared.size) or median < wishes.least_side):
        size, resizing, note = prepared.size, prepared.resizing, f"as for the weights: {prepared.resizing}"
    elif len(sizes) == 1 and max(min(sizes)) <= wishes.max_side:
        size, note = min(sizes), "the native size of all pictures"
    else:
        side = min(_round_side(median), wishes.max_side)
        size, note = (side, side), f"from a median short side of {median:g} pixels"
    if prepared is not None and wishes.size is None and size != prepared.size:
        height, width = prepared.size
        note += f"; the {height} x {width} of the weights would enlarge them more than twice"
    channels = wishes.channels
    if channels is None:
        channels = 1 if all(header.grey for header in headers) else 3
    return Form(size, channels, note, resizing)


def _round_side(side: float) -> int:
    multiple = 8 if side < 64 else 16 if side < 128 else 32
    return max(multiple, multiple * round(side / multiple))


def decode_files(
    root: Path,
    files: Sequence[str],
    wishes: Wishes,
    progress: Progress | None,
) -> tuple[NDArray[np.uint8], Form, dict[int, str]]:
    """Decode ``files`` into ``(n, height, width, channels)``; also returns the form and the faults (index to reason).

    The form is decided from up to 1,000 evenly spaced headers. Should the rest contradict it (the sizes are not all the
    same after all, there is colour, or more than eight bits), it is decided again from all headers and the pictures are
    decoded once more.
    """
    sample = evenly_spaced(np.arange(len(files)), _SAMPLE).tolist()
    headers = [header for header in _in_threads(lambda index: _header(root / files[index]), sample) if header]
    levels = None
    while True:
        if levels is None and any(header.deep for header in headers):
            levels = find_levels([root / file for file in files])
        form = replace(infer_form(headers, wishes), levels=levels or UNKNOWN)
        images, seen, faults = _decode(root, files, form, progress)
        if not seen or _agrees(form, headers, infer_form(seen, wishes), seen):
            return images, form, faults
        headers = seen


def find_levels(files: Sequence[Path]) -> Levels:
    """The levels of pictures of which some have more than eight bits per channel, from all of them."""
    found = [extent for extent in _in_threads(lambda index: deep_extent(files[index]), range(len(files))) if extent]
    integers, floats = (joined(extent for is_float, extent in found if is_float is kind) for kind in (False, True))
    return Levels(
        integers.range(floats=False) if integers.finite else None, floats.range(floats=True) if floats.finite else None
    )


def _agrees(form: Form, sample: list[Header], again: Form, seen: list[Header]) -> bool:
    if any(header.deep for header in seen) and not any(header.deep for header in sample):
        return False
    both_mixed = len({header.size for header in sample}) > 1 and len({header.size for header in seen}) > 1
    return form.channels == again.channels and (form.size == again.size or both_mixed)


def _header(path: Path) -> Header | None:
    try:
        with open_picture(path) as image:
            deep = is_deep(image)  # before the orientation is looked for, which decodes a PNG
            return Header(upright_size(image), is_grey(image), deep)
    except PictureError:
        return None  # it is reported when it is decoded


def _decode(
    root: Path, files: Sequence[str], form: Form, progress: Progress | None
) -> tuple[NDArray[np.uint8], list[Header], dict[int, str]]:
    images = allocate((len(files), *form.size, form.channels))
    headers: list[Header] = []
    faults: dict[int, str] = {}

    def decode(index: int) -> Header | str:
        try:
            picture = read_picture(
                root / files[index], form.size, form.channels, resizing=form.resizing, levels=form.levels
            )
        except PictureError as error:
            return error.reason
        images[index] = picture.pixels
        return Header(picture.native_size, picture.grey, picture.deep)

    for index, outcome in enumerate(_in_threads(decode, range(len(files)), progress)):
        if isinstance(outcome, str):
            faults[index] = outcome
        else:
            headers.append(outcome)
    return images, headers, faults


def _in_threads(
    work: Callable[[int], Outcome], indices: Sequence[int], progress: Progress | None = None
) -> Iterator[Outcome]:
    """``map`` with one thread per core, in order and in chunks; an interruption waits for the current chunks only."""
    chunks = [indices[start : start + _CHUNK] for start in range(0, len(indices), _CHUNK)]
    pool = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="decode")
    done = 0
    try:
        for outcomes in pool.map(lambda chunk: [work(index) for index in chunk], chunks):
            yield from outcomes
            done += len(outcomes)
            if progress:
                progress(done, len(indices))
    finally:
        pool.shutdown(cancel_futures=True)


def allocate(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """An uninitialised uint8 array in memory, or beyond ``MEMORY_LIMIT`` in a temporary file mapped into memory.

    The file has no name, so that it is gone when the process ends, however it ends; its space is reserved at once.

    Raises:
        UserError: the temporary folder has too little space.
    """
    count = math.prod(shape)
    if count <= MEMORY_LIMIT:
        return np.empty(shape, np.uint8)
    with tempfile.TemporaryFile(prefix="formwright-") as file:
        try:
            # Space is reserved where the system can: a write to a full disk through a map would kill the process.
            reserve = getattr(os, "posix_fallocate", None)
            reserve(file.fileno(), 0, count) if reserve else file.truncate(count)
        except OSError as error:
            raise UserError(
                f"The decoded pictures need {count / 2**30:.1f} GiB, which {tempfile.gettempdir()} cannot hold "
                f"({error.strerror}); free space, set TMPDIR to a larger disk, or ask for a smaller image size."
            ) from error
        return np.memmap(file, np.uint8, "r+", shape=shape)


def compact(images: NDArray[np.uint8], keep: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Move the pictures ``keep`` (ascending) to the front, in place, and return the view of them."""
    for start in range(0, len(keep), 1024):
        chunk = keep[start : start + 1024]
        images[start : start + len(chunk)] = images[chunk]
    return images[: len(keep)]
