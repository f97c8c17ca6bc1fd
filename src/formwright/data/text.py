"""Classified texts from users' files: read, checked and split."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from formwright.data.delimited import told
from formwright.data.encodings import decode, read_bytes
from formwright.data.folders import Kind, copies_note, list_classes, list_folder, skipped_note
from formwright.data.splits import (
    TEST,
    TRAIN,
    VAL,
    Split,
    check_class_counts,
    check_splits,
    fingerprint,
    in_order,
    save_splits,
    split_pictures,
)
from formwright.data.tables import SUFFIXES, Rows, read_rows
from formwright.data.walk import some
from formwright.errors import UserError

TEXT_SUFFIXES = (".txt", ".text")
#: How the files of given parts are called.
PART_NAMES = {
    "train": TRAIN,
    "training": TRAIN,
    "val": VAL,
    "valid": VAL,
    "validation": VAL,
    "dev": VAL,
    "test": TEST,
}
#: More classes than this, or than a third of the texts, are no classes.
MOST_CLASSES = 1000
_FILES = Kind("texts", lambda name: name.lower().endswith(TEXT_SUFFIXES), "sports")


@dataclass(frozen=True)
class TextData:
    """Labelled texts with their training, validation and test parts.

    ``labels`` int64 ``(n,)`` index ``class_names``; ``names`` says where each text is from (a file, or a file and its
    row). ``notes`` says in sentences what was inferred, left out or noticed. ``column`` is that of the texts in a table
    with a header.
    """

    texts: list[str]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    names: tuple[str, ...]
    split: Split
    source: str
    seed: int
    hash: str
    notes: tuple[str, ...]
    column: str = ""

    def part(self, name: str) -> list[str]:
        """The texts of ``train``, ``val`` or ``test``."""
        return [self.texts[index] for index in self.split.part(name)]

    def save_splits(self, path: str | Path) -> None:
        save_splits(path, self.split, self.names, self.hash, self.seed)

    def check_splits(self, path: str | Path) -> None:
        check_splits(path, self.split, self.names, self.hash, "texts")


def part_tables(folder: Path) -> dict[int, Path]:
    """The tables of a folder by part, ``train.tsv`` and its like; the only table of a folder is that of training."""
    tables = [
        path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    ]
    parts = {PART_NAMES[path.stem.lower()]: path for path in tables if path.stem.lower() in PART_NAMES}
    if TRAIN in parts:
        return parts
    return {TRAIN: tables[0]} if len(tables) == 1 else {}


def read_texts(
    path: str | Path,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    seed: int = 0,
    encoding: str | None = None,
    skip_bad: bool = False,
    out: Path | None = None,
) -> TextData:
    """Read texts and their classes, and split them.

    ``path`` is a table (CSV, TSV, JSON lines) with a column of texts and one of labels, a folder with tables called
    train, val (or dev) and test, or a folder with a sub-folder a class of ``.txt`` files. Columns that are not named
    are inferred, and ``notes`` says how. Parts that are not given are drawn by ``seed``; equal texts never lie in two
    parts. Results of runs, such as that in ``out``, are no texts. ``encoding`` is that of files that are neither marked
    nor UTF-8. ``skip_bad`` leaves out rows and files that cannot be used instead of refusing the data.

    Raises:
        UserError: the data is missing, damaged, or cannot be learned from; one sentence says which row of which file.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        list_folder(path)
        tables = part_tables(path)
        if not tables:
            return _read_folder(path, seed, encoding, skip_bad, out)
    elif path.suffix.lower() in SUFFIXES or not path.exists():
        tables = {TRAIN: path}
    else:
        raise UserError(
            f"{path} is no table of texts; a {', '.join(SUFFIXES)} file with a text and a label column, or a folder "
            "with a sub-folder of .txt files per class is expected."
        )
    read = {
        part: read_rows(file, text_column, label_column, encoding=encoding, skip_bad=skip_bad)
        for part, file in tables.items()
    }
    return _from_tables(path, read, seed)


def _from_tables(path: Path, read: dict[int, Rows], seed: int) -> TextData:
    texts, labels, names, parts, notes, skipped = [], [], [], [], [], []
    for part in sorted(read):
        rows = read[part]
        texts += rows.texts
        labels += rows.labels
        names += [f"{rows.path.name}:{number}" for number in rows.numbers]
        parts += [part] * len(rows.texts)
        skipped += rows.skipped
        if rows.guess and part == TRAIN:
            notes.append(f"Guessed: {rows.guess} (--text-column and --label-column say otherwise.)")
    notes += told(skipped, sum(rows.replaced for rows in read.values()))
    known = set(read[TRAIN].labels)
    unknown = [names[place] for place, label in enumerate(labels) if label not in known]
    if unknown:
        extra = some(sorted(set(labels) - known))
        raise UserError(
            f"{unknown[0]} has a class that the training table lacks: {extra}; add texts of it to train on."
        )
    class_names = in_order(known)
    if len(class_names) > min(MOST_CLASSES, max(2, len(read[TRAIN].labels) // 3)):
        raise UserError(
            f"{read[TRAIN].path} has {len(class_names)} different labels among {len(read[TRAIN].labels)} texts; a few "
            "classes with several texts each are expected: name the right column with --label-column."
        )
    index = {name: number for number, name in enumerate(class_names)}
    classes = [index[label] for label in labels]
    return _assemble(path, texts, classes, class_names, names, parts, notes, seed, read[TRAIN].column)


def _read_folder(root: Path, seed: int, encoding: str | None, skip_bad: bool, out: Path | None) -> TextData:
    listing = list_classes(root, _FILES, out=out)
    texts, kept, notes, faults, replaced = [], [], list(listing.notes), [], 0
    for place, name in enumerate(listing.files):
        try:
            decoded = decode(read_bytes(root / name), root / name, encoding=encoding)
        except UserError as error:
            if not skip_bad:
                raise
            faults.append(f"{name} ({str(error).partition(';')[0]})")
            continue
        texts.append(decoded.text.strip())
        replaced += decoded.replaced
        kept.append(place)
    if faults:
        notes.append(skipped_note(len(faults), some(faults, 5)))
    notes += told([], replaced)
    names = [listing.files[place] for place in kept]
    labels, parts = listing.labels[kept].tolist(), listing.parts[kept].tolist()
    return _assemble(root, texts, labels, listing.class_names, names, parts, notes, seed)


def _assemble(
    path: Path,
    texts: list[str],
    classes: Sequence[int],
    class_names: tuple[str, ...],
    names: Sequence[str],
    part_list: Sequence[int],
    notes: list[str],
    seed: int,
    column: str = "",
) -> TextData:
    if len(class_names) < 2:
        raise UserError(
            f"{path} holds one class only, {class_names[0]!r}; at least two are expected: name another column with "
            "--label-column, or add texts of another class."
        )
    labels, parts = np.array(classes, np.int64), np.array(part_list, np.int8)
    given = {int(part) for part in np.unique(parts)} - {TRAIN}
    check_class_counts(np.bincount(labels[parts == TRAIN], minlength=len(class_names)), class_names, given, "texts")
    digests = np.frombuffer(
        b"".join(hashlib.blake2b(text.encode(errors="replace"), digest_size=8).digest() for text in texts), np.uint64
    )
    split = split_pictures(labels, digests, parts, class_names, seed, samples="texts")
    shown = [name for part, name in ((VAL, "validation"), (TEST, "test")) if part in given]
    every = [
        f"Task: text classification, {len(class_names)} classes: {some(list(class_names), 10)}.",
        f"Parts: {len(split.train)} to train, {len(split.val)} to validate, {len(split.test)} to test"
        f" ({' and '.join(shown) + ' as given' if shown else 'drawn'}, seed {seed}).",
        *notes,
    ]
    if split.copies:
        every.append(copies_note(split.copies, "text", "texts"))
    if split.contradictions:
        every.append(f"{split.contradictions} texts occur under more than one class: look at their labels.")
    if len(split.dropped):
        every.append(f"{len(split.dropped)} of them lay in two parts and were left out of the earlier one.")
    return TextData(
        texts=texts,
        labels=labels,
        class_names=class_names,
        names=tuple(names),
        split=split,
        source=str(path),
        seed=seed,
        hash=fingerprint(names, labels, digests),
        notes=tuple(every),
        column=column,
    )
