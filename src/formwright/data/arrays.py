"""Pictures that come as arrays: ``.npz`` files and IDX pairs (the format of MNIST)."""

from __future__ import annotations

import gzip
import math
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from formwright.data.decode import Form, Progress, allocate
from formwright.data.preprocess import to_array
from formwright.data.splits import TEST, TRAIN, VAL
from formwright.errors import UserError
from formwright.levels import INTEGERS, UNKNOWN, Extent, Levels, joined

_PART_KEYS = {TRAIN: "train", VAL: "val", TEST: "test"}
# Names under which images and labels lie together in the files that people have.
_KEY_PAIRS = (("images", "labels"), ("x", "y"), ("X", "y"), ("data", "labels"), ("data", "target"), ("arr_0", "arr_1"))


@dataclass
class ArrayData:
    """Pictures ``(n, height, width, channels)`` with labels, class names and, per picture, the part it came with."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    parts: NDArray[np.int8]
    notes: list[str] = field(default_factory=list)
    levels: Levels = UNKNOWN


def read_npz(path: Path) -> ArrayData:
    """Read ``images``/``labels``, ``x``/``y``, ``arr_0``/``arr_1`` or ``x_train``/``y_train``/``x_test``/``y_test``.

    Also ``train_images``/``train_labels`` with ``val_`` and ``test_``, as in MedMNIST. Nothing is unpickled.

    Raises:
        UserError: the file is damaged, lacks these keys, or holds values or shapes that are not pictures and labels.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, MemoryError) as error:
        hint = "save labels as numbers or text, not as objects" if "pickle" in str(error).lower() else "save it again"
        raise UserError(f"{path} cannot be read as .npz ({error or type(error).__name__}); {hint}.") from error
    pairs = _find_pairs(path, arrays)
    return join_parts([(part, arrays[x], arrays[y], f"{path}[{x!r}]") for part, x, y in pairs])


def _find_pairs(path: Path, arrays: Mapping[str, Any]) -> list[tuple[int, str, str]]:
    for x, y in _KEY_PAIRS:
        if x in arrays and y in arrays:
            return [(TRAIN, x, y)]
    for pattern_x, pattern_y in (("x_{}", "y_{}"), ("X_{}", "y_{}"), ("{}_images", "{}_labels")):
        pairs = [(part, pattern_x.format(name), pattern_y.format(name)) for part, name in _PART_KEYS.items()]
        pairs = [pair for pair in pairs if pair[1] in arrays and pair[2] in arrays]
        if pairs and pairs[0][0] == TRAIN:
            return pairs
    raise UserError(
        f"{path} holds {', '.join(sorted(arrays)) or 'nothing'}; images and labels, x and y, or x_train, y_train, "
        "x_test and y_test are expected: save it under these names."
    )


def join_parts(parts: list[tuple[int, NDArray[Any], NDArray[Any], str]]) -> ArrayData:
    """Check and join ``(part, images, labels, name)``: pictures to uint8 channels-last, labels to class indices."""
    notes: list[str] = []
    raw_images, all_labels = [], []
    for _, images, labels, name in parts:
        labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
        if images.ndim < 1 or labels.shape != images.shape[:1]:
            raise UserError(
                f"{name} has shape {images.shape} but its labels have shape {labels.shape}; one label per picture is "
                "expected."
            )
        raw_images.append(_channels_last(images, name, notes))
        all_labels.append(_as_values(labels, name))
    levels = _levels(raw_images)
    notes += levels.told()
    all_images = [_eight_bits(images, levels) for images in raw_images]
    forms = {images.shape[1:] for images in all_images}
    if len(forms) > 1:
        raise UserError(
            f"{parts[0][3]} and the other parts differ in picture shape: {sorted(forms)}; one shape is expected."
        )
    values, labels = np.unique(np.concatenate(all_labels), return_inverse=True)
    lengths = [len(images) for images in all_images]
    return ArrayData(
        images=all_images[0] if len(all_images) == 1 else np.concatenate(all_images),
        labels=labels.astype(np.int64),
        class_names=tuple(str(value) for value in values.tolist()),
        parts=np.repeat(np.array([part for part, *_ in parts], np.int8), lengths),
        notes=notes,
        levels=levels,
    )


def _channels_last(images: NDArray[Any], name: str, notes: list[str]) -> NDArray[Any]:
    """Bring an array to ``(n, height, width, channels)``; what was assumed is added to ``notes``.

    ``(n, height, width)`` is grey; ``(n, channels, height, width)`` is transposed.

    Raises:
        UserError: for other shapes and types, and for values that are not finite.
    """
    expected = "(n, height, width), (n, height, width, 1 or 3) or (n, 1 or 3, height, width)"
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim == 4 and images.shape[3] not in (1, 3) and images.shape[1] in (1, 3):
        images = images.transpose(0, 2, 3, 1)
        notes.append(f"{name} has its channels first; they were moved last.")
    if images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in images.shape:
        raise UserError(f"{name} has shape {images.shape}; {expected} is expected: reshape it and save it again.")
    if images.dtype.kind not in "buif":
        raise UserError(f"{name} has type {images.dtype}; numbers are expected: integers 0..255 or floats 0..1.")
    if images.dtype.kind == "f" and not (np.isfinite(images.min()) and np.isfinite(images.max())):
        bad = int((~np.isfinite(images)).reshape(len(images), -1).any(axis=1).sum())
        raise UserError(f"{name} has values that are not finite in {bad} pictures; mend or remove those pictures.")
    return images


def _levels(arrays: Sequence[NDArray[Any]]) -> Levels:
    """How the values of all parts alike become eight bits; those of bytes stay as they are."""
    integers = [one for one in arrays if one.dtype.kind in "iu"]
    floats = joined(Extent.of(one) for one in arrays if one.dtype.kind == "f")
    deep = any(one.dtype != np.uint8 for one in integers)
    found = joined(map(Extent.of, integers)).range(floats=False) if deep else INTEGERS[0]
    return Levels(
        integers=None if found == INTEGERS[0] else found, floats=floats.range(floats=True) if floats.finite else None
    )


def _eight_bits(images: NDArray[Any], levels: Levels) -> NDArray[np.uint8]:
    if images.dtype.kind == "b":
        return images.astype(np.uint8) * np.uint8(255)
    if images.dtype.kind in "iu" and levels.integers is None:
        return np.ascontiguousarray(images, np.uint8)
    pictures = np.empty(images.shape, np.uint8)
    for start in range(0, len(images), 4096):
        pictures[start : start + 4096] = levels.eight_bits(images[start : start + 4096])
    return pictures


def _as_values(labels: NDArray[Any], name: str) -> NDArray[Any]:
    if labels.dtype.kind == "f":
        if not (np.isfinite(labels).all() and (labels == np.round(labels)).all()):
            raise UserError(
                f"The labels of {name} are not whole numbers; one class number or name per picture is expected."
            )
        return labels.astype(np.int64)
    if labels.dtype.kind not in "buiSU":
        raise UserError(f"The labels of {name} have type {labels.dtype}; class numbers or names are expected.")
    return labels.astype(str) if labels.dtype.kind in "S" else labels


def resize_pictures(images: NDArray[np.uint8], form: Form, progress: Progress | None) -> NDArray[np.uint8]:
    """Bring pictures to another form by the rule of :mod:`formwright.data.preprocess`."""
    (height, width), shape = form.size, (*form.size, form.channels)
    if images.shape[1:] == shape and form.resizing.kept((width, height), (width, height)) == (0, 0, width, height):
        return images
    result = allocate((len(images), *shape))
    for index, image in enumerate(images):
        opened = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
        result[index] = to_array(opened, form.size, form.channels, form.resizing)
        if progress and (index % 256 == 255 or index + 1 == len(images)):
            progress(index + 1, len(images))
    return result


def find_idx_parts(folder: Path, names: list[str], given: str | None = None) -> list[tuple[int, Path, Path]]:
    """The IDX pairs ``(part, images, labels)`` among the files ``names`` of ``folder``.

    Where one images file was ``given``: that one, and with a training file the validation and test files beside it.
    """
    pairs = {}
    for name in names:
        if "images" in name and "idx" in name:
            labels = name.replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1")
            plain = labels.removesuffix(".gz")
            there = next((option for option in (labels, plain, f"{plain}.gz") if option in names), labels)
            part = TEST if name.startswith(("t10k", "test")) else VAL if name.startswith("val") else TRAIN
            pairs[name] = (part, folder / name, folder / there)
    if given is None:
        return list(pairs.values())
    if given not in pairs:
        return []
    if pairs[given][0] != TRAIN:
        return [(TRAIN, *pairs[given][1:])]
    return [pair for name, pair in pairs.items() if name == given or pair[0] != TRAIN]


def read_idx_parts(pairs: list[tuple[int, Path, Path]]) -> ArrayData:
    """Read the pairs that :func:`find_idx_parts` found.

    Raises:
        UserError: a file is missing, its header is broken, or its length is not what the header says.
    """
    parts = []
    for part, images, labels in sorted(pairs, key=lambda pair: pair[0]):
        if not labels.exists():
            raise UserError(f"{images} has no labels beside it; {labels.name} is expected in the same folder.")
        parts.append((part, read_idx(images), read_idx(labels), str(images)))
    return join_parts(parts)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, gzipped or not: two zero bytes, type 8, number of axes, sizes, values."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            head = file.read(4)
            if len(head) < 4 or head[:3] != b"\0\0\x08" or not 1 <= head[3] <= 4:
                raise UserError(
                    f"{path} starts with {head.hex() or 'nothing'}; an IDX file of unsigned bytes (000008 and the "
                    "number of axes) is expected: download it again."
                )
            shape = struct.unpack(f">{head[3]}I", file.read(4 * head[3]))
            count = math.prod(shape)
            values = bytearray()
            while len(values) <= count and (chunk := file.read(min(count + 1 - len(values), 1 << 24))):
                values += chunk  # in steps, so that a false header cannot claim more memory than the file holds
    except (OSError, EOFError, struct.error, zlib.error, MemoryError) as error:
        raise UserError(f"{path} cannot be read as an IDX file ({error}); download it again.") from error
    if len(values) != count:
        came = "more" if len(values) > count else f"{len(values):,}"
        raise UserError(f"{path} promises {count:,} values {shape} but holds {came}; download it again.")
    return np.frombuffer(values, np.uint8).reshape(shape)
