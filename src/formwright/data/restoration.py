"""Pairs of a poor and a clean picture: two folders of them, or clean pictures from which poor ones are made."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from formwright.data.decode import find_levels
from formwright.data.degradation import Degradation
from formwright.data.folders import PART_NAMES, list_folder
from formwright.data.preprocess import PictureError, is_grey, open_picture, read_picture, readable_suffixes
from formwright.data.splits import TEST, TEST_SHARE, TRAIN, VAL, VAL_SHARE, content_digests
from formwright.errors import UserError
from formwright.files import read_json, write_json
from formwright.levels import UNKNOWN, Levels

LOW, HIGH = "low", "high"
#: Sides of a clean picture that a patch and the window of SSIM fit into; scales that are read.
SMALLEST, SCALES = 32, range(1, 9)

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class RestorationData:
    """Pairs ``low[i]``, ``high[i]`` of uint8 pictures ``(height, width, channels)``, and the part of each.

    ``levels`` says what became of values of more than eight bits.
    """

    source: str
    notes: tuple[str, ...]
    names: tuple[str, ...]
    low: tuple[Pixels, ...]
    high: tuple[Pixels, ...]
    scale: int
    degradation: str
    parts: Mapping[str, NDArray[np.int64]]
    levels: Levels = UNKNOWN

    @property
    def channels(self) -> int:
        return self.high[0].shape[2]

    def _record(self) -> dict[str, object]:
        digests = [int(content_digests(high[None])[0]) for high in self.high]
        return {
            "schema_version": 1,
            **{part: [[self.names[i], f"{digests[i]:016x}"] for i in rows] for part, rows in self.parts.items()},
        }

    def save_splits(self, path: str | Path) -> None:
        """Record which picture is in which part (JSON, atomically)."""
        write_json(Path(path), self._record())

    def check_splits(self, path: str | Path) -> None:
        """Raise a ``UserError`` unless pictures and parts are those recorded in ``path``."""
        if read_json(Path(path)) != self._record():
            raise UserError(
                f"{self.source} holds other pictures than those recorded in {path}; give the same as before."
            )


def holds_pairs(root: Path) -> bool:
    """Whether a folder, or the folder ``train`` in it, has the folders ``low`` and ``high``."""
    try:
        inner = [entry.name for entry in os.scandir(root) if PART_NAMES.get(entry.name.lower()) == TRAIN]
    except OSError:  # whoever reads it says why
        return False
    return any(_is_paired(root / name) for name in ("", *inner))


def _is_paired(folder: Path) -> bool:
    return (folder / LOW).is_dir() and (folder / HIGH).is_dir()


def _part_folders(root: Path) -> dict[int, Path]:
    """The folder of each part that is given: those called train, val and test, or ``root`` where there is no train.

    Raises:
        UserError: a part has several folders.
    """
    found: dict[int, Path] = {}
    for entry in list_folder(root):
        part = PART_NAMES.get(entry.name.lower()) if entry.is_dir() else None
        if part in found:
            raise UserError(f"{root} has {found[part].name} and {entry.name} for the same part; keep one of them.")
        if part is not None:
            found[part] = Path(entry.path)
    return found if TRAIN in found else {TRAIN: root}


def read_restoration(
    root: Path,
    *,
    scale: int | None = None,
    degradation: str | None = None,
    seed: int = 0,
    skip_bad: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> RestorationData:
    """Read pairs from ``root/low`` and ``root/high``, by their names, or make poor pictures of those in ``root``.

    Where ``root`` has the folders train, val and test, or train and one of them, each holds such pairs or pictures, and
    what is missing is drawn from those to train on. A picture that two parts share stays in test, or else in val.

    Args:
        root: the folder.
        scale: how many times as high and wide the clean pictures are; told by pairs, otherwise 2 if unset.
        degradation: as :meth:`Degradation.parse` takes it; for clean pictures only.
        seed: of the parts and of noise.
        skip_bad: leave out files that cannot be read.
        progress: told how many of how many pictures are read.

    Raises:
        UserError: a picture cannot be read or has no partner, sizes do not fit, or there are too few for three parts.
    """
    if not root.is_dir():
        raise UserError(f"There is no folder {root}; give one of pictures, or one with the folders {LOW} and {HIGH}.")
    if scale is not None and scale not in SCALES:
        raise UserError(f"The scale is a whole number from {SCALES[0]} to {SCALES[-1]} (--scale), got {scale}.")
    folders = _part_folders(root)
    paired = _is_paired(folders[TRAIN])
    if paired and degradation is not None:
        raise UserError(f"{root} holds pairs, whose poor pictures are given; leave --degradation out.")
    files = [
        (part, name, low, high)
        for part, folder in sorted(folders.items(), reverse=True)  # test, val, train
        for name, low, high in (_pairs(folder) if paired else _clean(folder))
    ]
    made = None if paired else Degradation.parse(degradation or "bicubic", scale or 2)
    levels = find_levels([path for *_, low, high in files for path in (low, high) if path is not None])
    names, lows, highs, given, notes, seen = [], [], [], list[int](), levels.told(), set[int]()
    mode = 1 if all(_is_grey(high) for *_, high in files) else 3
    for number, (part, name, poor, file) in enumerate(files):
        try:
            high = read_pixels(file, mode, levels)
            low = None if poor is None else read_pixels(poor, mode, levels)
        except PictureError:
            if not skip_bad:
                raise
            notes.append(f"{file.name} could not be read and was left out.")
            continue
        digest = int(content_digests(high[None])[0])
        if digest in seen:
            notes.append(f"{file.name} is a copy of another picture and was left out.")
            continue
        seen.add(digest)
        if min(high.shape[:2]) < SMALLEST:
            raise UserError(f"{file} is {_size(high)} pixels; sides of {SMALLEST} at least are expected: leave it out.")
        if low is None:
            assert made is not None
            if high.shape[0] % made.scale or high.shape[1] % made.scale:
                raise UserError(
                    f"{file} is {_size(high)} pixels, which a scale of {made.scale} does not divide; cut it to a "
                    "multiple, or give another --scale."
                )
            low = made.apply(high, seed + number)
        else:
            scale = _scale_of(name, low, high, scale)
        names.append(name if len(folders) == 1 else f"{folders[part].name}/{name}")
        given.append(part)
        lows.append(low)
        highs.append(high)
        if progress is not None:
            progress(number + 1, len(files))
    return RestorationData(
        source=str(root),
        notes=tuple(notes),
        names=tuple(names),
        low=tuple(lows),
        high=tuple(highs),
        scale=made.scale if made is not None else scale or 1,
        degradation="pairs of the folders low and high" if made is None else str(made),
        parts=_parts(root, np.array(given, np.int8), seed),
        levels=levels,
    )


def read_pixels(file: Path, channels: int, levels: Levels = UNKNOWN) -> Pixels:
    """A picture file as uint8 ``(height, width, channels)``, upright and as large as it is.

    Raises:
        UserError: it is not a whole picture.
    """
    return read_picture(file, None, channels, levels=levels).pixels


def _is_grey(file: Path) -> bool:
    try:
        with open_picture(file) as image:
            return is_grey(image)
    except PictureError:
        return True  # reading it says what is wrong


def _files(folder: Path) -> dict[str, Path]:
    """The pictures of a folder by name without its ending."""
    suffixes, found = readable_suffixes(), dict[str, Path]()
    for entry in list_folder(folder):
        path = Path(entry.path)
        if not entry.is_dir() and path.suffix.lower() in suffixes:
            if path.stem in found:
                raise UserError(
                    f"{found[path.stem].name} and {path.name} of {folder} have one name; rename one of them."
                )
            found[path.stem] = path
    if not found:
        raise UserError(f"{folder} holds no pictures; a folder of pictures, or one with {LOW} and {HIGH}, is expected.")
    return found


def _clean(folder: Path) -> Iterator[tuple[str, None, Path]]:
    yield from ((name, None, file) for name, file in _files(folder).items())


def _pairs(folder: Path) -> Iterator[tuple[str, Path, Path]]:
    """The pairs of a folder: their name, the poor picture and the clean one."""
    if not _is_paired(folder):
        raise UserError(f"{folder} lacks the folders {LOW} and {HIGH}, which the pictures to train on have; add them.")
    poor, clean = _files(folder / LOW), _files(folder / HIGH)
    alone = sorted(set(poor) ^ set(clean))
    if alone:
        where = LOW if alone[0] in poor else HIGH
        raise UserError(
            f"{len(alone)} pictures of {folder} have no partner, such as {where}/{alone[0]}; a picture of the same "
            f"name is expected in {LOW} and {HIGH}: add or remove them."
        )
    yield from ((name, poor[name], file) for name, file in clean.items())


def _size(pixels: Pixels) -> str:
    return f"{pixels.shape[1]} x {pixels.shape[0]}"


def _scale_of(name: str, low: Pixels, high: Pixels, expected: int | None) -> int:
    """How many times as high and wide ``high`` is, which must be the same for all pairs."""
    scale = high.shape[0] // low.shape[0]
    fits = scale in SCALES and high.shape[:2] == (low.shape[0] * scale, low.shape[1] * scale)
    if not fits or (expected is not None and scale != expected):
        wanted = "the same whole multiple for all pairs" if expected is None else f"{expected} times as many"
        raise UserError(f"The pair {name!r} has {_size(low)} and {_size(high)} pixels; {wanted} per side is expected.")
    return scale


def _parts(root: Path, given: NDArray[np.int8], seed: int) -> dict[str, NDArray[np.int64]]:
    """Rows of each part; those that are not given are drawn from those to train on."""
    rows = {part: np.flatnonzero(given == part) for part in (TRAIN, VAL, TEST)}
    missing = {part: share for part, share in ((TEST, TEST_SHARE), (VAL, VAL_SHARE)) if not len(rows[part])}
    if len(rows[TRAIN]) <= len(missing):
        raise UserError(
            f"{root} has {len(rows[TRAIN])} different pictures to train on; {len(missing) + 1} at least are expected, "
            "one for each part that has no folder: add some."
        )
    order, start = np.random.default_rng(seed).permutation(rows[TRAIN]), 0
    for part, share in missing.items():
        count = max(1, round(share * len(order)))
        rows[part], start = np.sort(order[start : start + count]), start + count
    return {"train": np.sort(order[start:]), "val": rows[VAL], "test": rows[TEST]}
