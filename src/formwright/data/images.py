"""Image classification data from users' files: read, checked, brought to one size, split, and described."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from formwright.data.arrays import ArrayData, find_idx_parts, join_parts, read_idx_parts, read_npz, resize_pictures
from formwright.data.decode import MAX_SIDE, Form, Header, Progress, Wishes, compact, decode_files, infer_form
from formwright.data.folders import Listing, copies_note, list_folder, list_pictures, skipped_note
from formwright.data.picture_tables import find_table, is_table, list_table
from formwright.data.samples import digits
from formwright.data.splits import (
    TEST,
    TRAIN,
    VAL,
    Split,
    check_class_counts,
    check_splits,
    content_digests,
    fingerprint,
    save_splits,
    split_pictures,
)
from formwright.data.walk import some
from formwright.errors import UserError
from formwright.levels import UNKNOWN, Levels
from formwright.resizing import LARGEST_BOX, Resizing

if TYPE_CHECKING:
    from formwright.models.preprocessing import Preprocessing

_CHUNK = 4096


@dataclass(frozen=True)
class ImageData:
    """Labelled pictures of one size with their training, validation and test parts.

    ``images`` is uint8 ``(n, height, width, channels)``, in memory or mapped from a temporary file; ``labels`` int64
    ``(n,)`` indexes ``class_names``; ``files`` names each picture for reports and records (relative to ``source`` for a
    folder, ``[index]`` for arrays). ``mean`` and ``std`` are those of the training pictures, or those of the weights
    that models start from, one value per channel, with pixels scaled to 0..1; ``resizing`` is how all pictures were
    brought to their size, ``levels`` what became of values of more than eight bits. ``notes`` says in sentences what
    was inferred, left out or noticed.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    files: tuple[str, ...]
    split: Split
    source: str
    seed: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    hash: str
    resizing: Resizing = LARGEST_BOX
    levels: Levels = UNKNOWN
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return int(self.images.shape[1]), int(self.images.shape[2])

    @property
    def channels(self) -> int:
        """1 for grey, 3 for RGB."""
        return int(self.images.shape[3])

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def names(self) -> tuple[str, ...]:
        """What each picture is called."""
        return self.files

    def save_splits(self, path: str | Path) -> None:
        """Record which picture is in which part (JSON, atomically)."""
        save_splits(path, self.split, self.files, self.hash, self.seed)

    def check_splits(self, path: str | Path) -> None:
        """Raise a ``UserError`` unless pictures and parts are those recorded in ``path``."""
        check_splits(path, self.split, self.files, self.hash)


def read_images(
    path: str | Path | None = None,
    *,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    seed: int = 0,
    skip_bad: bool = False,
    max_side: int = MAX_SIDE,
    prepared: Preprocessing | None = None,
    least_side: int = 1,
    label_column: str | None = None,
    encoding: str | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
) -> ImageData:
    """Read image classification data, bring it to one size and split it.

    ``path`` is a folder with a sub-folder per class (optionally within train, val and test folders), a table of files
    and classes or the folder that it lies in (:mod:`formwright.data.picture_tables`; ``encoding``), an ``.npz`` file,
    an IDX images file or a folder of IDX files, or None for scikit-learn's digits. ``size`` (pixels, or height and
    width) and ``channels`` (1 or 3) are inferred where not given, the size up to ``max_side``; see
    :func:`formwright.data.decode.infer_form`. How pictures were ``prepared`` for the weights that models start from
    decides on the size, unless it is much larger than the pictures and these models take a shorter side
    (``least_side``), and on mean and deviation. Parts without a folder of their own are drawn by ``seed``; see
    :func:`formwright.data.splits.split_pictures`. ``skip_bad`` leaves out files that cannot be read instead of refusing
    the data. Results of runs, such as that in ``out``, are no pictures. ``progress(done, total)`` is called as pictures
    are decoded.

    Raises:
        UserError: the data is missing, unreadable, damaged, or cannot be learned from; one sentence says which and
            what to do.
    """
    size = _check_size(size)
    if channels not in (None, 1, 3):
        raise UserError(f"{channels} channels were asked for; 1 (grey) or 3 (RGB) is expected.")
    wishes = Wishes(size, channels, max_side, prepared, least_side)
    if path is None:
        images, labels, class_names = digits()
        arrays = ArrayData(images, labels, class_names, np.full(len(labels), TRAIN, np.int8))
        return _from_array_data(arrays, "scikit-learn digits", wishes, seed)
    path = Path(path).expanduser()
    table = path if is_table(path) else find_table(path)
    if table is not None:
        listing = list_table(table, label=label_column, encoding=encoding, skip_bad=skip_bad, out=out)
        return _from_listing(table.parent, listing, wishes, seed, skip_bad, progress, source=path)
    if label_column is not None:
        raise UserError(f"{path} holds no table that names its pictures, so there is no column {label_column!r}.")
    if _is_folder(path):
        pairs = find_idx_parts(path, [entry.name for entry in list_folder(path)])
        if not pairs:
            return _read_folder(path, wishes, seed, skip_bad, out, progress)
    elif path.suffix == ".npz":
        return _from_array_data(read_npz(path), str(path), wishes, seed, progress)
    else:
        beside = sorted(entry.name for entry in path.parent.iterdir())
        pairs = find_idx_parts(path.parent, beside, path.name)
        if not pairs:
            raise UserError(
                f"{path} is a file of a kind that is not read; a folder with a sub-folder per class, a table of files "
                "and classes, an .npz file or an IDX images file (such as train-images-idx3-ubyte.gz) is "
                "expected: unpack it or give its folder."
            )
    return _from_array_data(read_idx_parts(pairs), str(path), wishes, seed, progress)


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"There is no {path}; a folder with a sub-folder of pictures per class is expected: check the path."
        ) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); give yourself the right to read it.") from error


def from_arrays(
    images: NDArray[np.generic],
    labels: NDArray[np.generic],
    *,
    class_names: Sequence[str] | None = None,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    seed: int = 0,
    max_side: int = MAX_SIDE,
    source: str = "arrays",
) -> ImageData:
    """As :func:`read_images`, from pictures and labels in memory; see ``join_parts`` for the shapes and ranges taken.

    ``class_names`` name the label values in ascending order.
    """
    data = join_parts([(TRAIN, np.asarray(images), np.asarray(labels), source)])
    if class_names is not None:
        if len(class_names) != len(data.class_names):
            raise UserError(
                f"{len(class_names)} class names came with {len(data.class_names)} label values; one each is expected."
            )
        data.class_names = tuple(class_names)
    return _from_array_data(data, source, Wishes(_check_size(size), channels, max_side), seed)


def _read_folder(
    root: Path, wishes: Wishes, seed: int, skip_bad: bool, out: Path | None, progress: Progress | None
) -> ImageData:
    return _from_listing(root, list_pictures(root, out=out), wishes, seed, skip_bad, progress, source=root)


def _from_listing(
    root: Path,
    listing: Listing,
    wishes: Wishes,
    seed: int,
    skip_bad: bool,
    progress: Progress | None,
    *,
    source: Path,
) -> ImageData:
    counts = np.bincount(listing.labels[listing.parts == TRAIN], minlength=len(listing.class_names))
    check_class_counts(counts, listing.class_names, listing.given)
    images, form, faults = decode_files(root, listing.files, wishes, progress)
    if faults and (not skip_bad or len(faults) == len(listing.files)):
        raise UserError(_bad_files(root, listing.files, faults))
    keep = np.setdiff1d(np.arange(len(listing.files)), np.array(list(faults), np.int64))
    notes = [*listing.notes, *form.levels.told()]
    if faults:
        images = compact(images, keep)
        named = some([f"{listing.files[index]} ({reason})" for index, reason in faults.items()], most=5)
        notes.append(skipped_note(len(faults), named))
    return _assemble(
        ArrayData(images, listing.labels[keep], listing.class_names, listing.parts[keep], notes, form.levels),
        files=tuple(listing.files[index] for index in keep),
        source=str(source),
        form=form,
        wishes=wishes,
        seed=seed,
        skipped=tuple(listing.files[index] for index in faults),
    )


def _bad_files(root: Path, files: Sequence[str], faults: dict[int, str]) -> str:
    named = some([f"{files[index]} ({reason})" for index, reason in faults.items()], most=5)
    return (
        f"{len(faults)} of {len(files)} pictures in {root} cannot be read: {named}; whole pictures in a format that "
        "Pillow reads are expected: repair or remove them, or leave them out with --skip-bad (skip_bad=True)."
    )


def _from_array_data(
    data: ArrayData,
    source: str,
    wishes: Wishes,
    seed: int,
    progress: Progress | None = None,
) -> ImageData:
    if len(data.class_names) < 2:
        raise UserError(f"{source} holds one class only, {data.class_names[0]!r}; at least two classes are expected.")
    height, width, native_channels = data.images.shape[1:]
    form = infer_form([Header((height, width), native_channels == 1)], wishes)
    data.images = resize_pictures(data.images, form, progress)
    return _assemble(
        data,
        files=tuple(f"[{index}]" for index in range(len(data.labels))),
        source=source,
        form=form,
        wishes=wishes,
        seed=seed,
        skipped=(),
    )


def _assemble(
    data: ArrayData,
    files: tuple[str, ...],
    source: str,
    form: Form,
    wishes: Wishes,
    seed: int,
    skipped: tuple[str, ...],
) -> ImageData:
    images = data.images
    channel_note = ""
    if wishes.channels is None and images.shape[3] == 3 and _all_channels_equal(images):
        images = np.ascontiguousarray(images[..., :1])
        channel_note = "; the pictures are stored in colour but hold grey only"
    digests = content_digests(images)
    split = split_pictures(data.labels, digests, data.parts, data.class_names, seed)
    prepared = wishes.prepared
    mean, std = channel_statistics(images, split.train) if prepared is None else (prepared.mean, prepared.std)
    height, width, channels = images.shape[1:]
    colour = "grey" if channels == 1 else "RGB"
    given = [name for part, name in ((VAL, "validation"), (TEST, "test")) if (data.parts == part).any()]
    notes = [
        f"Task: image classification, {len(data.class_names)} classes.",
        f"Pictures: {height} x {width} pixels ({form.note}), {colour}{channel_note}.",
        f"Parts: {len(split.train)} to train, {len(split.val)} to validate, {len(split.test)} to test"
        f" ({' and '.join(given) + ' as given' if given else 'drawn'}, seed {seed}).",
        *data.notes,
        *_split_notes(split, data.labels, data.class_names),
    ]
    return ImageData(
        images=images,
        labels=data.labels,
        class_names=data.class_names,
        files=files,
        split=split,
        source=source,
        seed=seed,
        mean=mean,
        std=std,
        hash=fingerprint(files, data.labels, digests),
        resizing=form.resizing,
        levels=data.levels,
        skipped=skipped,
        notes=tuple(notes),
    )


def _split_notes(split: Split, labels: NDArray[np.int64], class_names: Sequence[str]) -> list[str]:
    notes = []
    if split.copies:
        notes.append(copies_note(split.copies, "picture", "pictures"))
    if split.contradictions:
        notes.append(f"{split.contradictions} pictures occur under more than one class: look at their labels.")
    if len(split.dropped):
        notes.append(f"{len(split.dropped)} of them lay in two parts and were left out of the earlier one.")
    for part in ("val", "test"):
        missing = [class_names[label] for label in np.setdiff1d(np.arange(len(class_names)), labels[split.part(part)])]
        if missing:
            notes.append(f"The given {part} part has no pictures of {some(missing)}.")
    return notes


def channel_statistics(
    images: NDArray[np.uint8], indices: NDArray[np.int64]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of the pictures ``indices``, exact, with pixels scaled to 0..1.

    The deviation is at least 1/255, so that pictures of one colour can be normalised.
    """
    totals = np.zeros((images.shape[3], 256), np.int64)
    for start in range(0, len(indices), _CHUNK):
        chunk = images[indices[start : start + _CHUNK]]
        for channel, total in enumerate(totals):
            total += np.bincount(chunk[..., channel].ravel(), minlength=256)
    values = np.arange(256) / 255.0
    mean = totals @ values / totals.sum(axis=1)
    variance = (totals * (values - mean[:, None]) ** 2).sum(axis=1) / totals.sum(axis=1)
    return tuple(mean.tolist()), tuple(np.maximum(np.sqrt(variance), 1 / 255).tolist())


def _all_channels_equal(images: NDArray[np.uint8]) -> bool:
    chunks = (images[start : start + _CHUNK] for start in range(0, len(images), _CHUNK))
    return all((chunk == chunk[..., :1]).all() for chunk in chunks)


def _check_size(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 1:
        raise UserError(f"The image size {height} x {width} was asked for; at least 1 x 1 pixels are expected.")
    return height, width
