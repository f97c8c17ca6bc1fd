"""Finding the pictures of a folder that holds a sub-folder per class, with or without train/val/test above them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from formwright.data.preprocess import readable_suffixes
from formwright.data.splits import TEST, TRAIN, VAL
from formwright.data.walk import Tree, holds_results, is_hidden, some
from formwright.errors import UserError

PART_NAMES = {"train": TRAIN, "training": TRAIN, "val": VAL, "valid": VAL, "validation": VAL, "test": TEST}


@dataclass(frozen=True)
class Listing:
    """The picture files of a data set, before any of them is opened.

    ``files`` are relative to the folder; ``labels`` index ``class_names``; ``parts`` holds the part (train, validation
    or test) that each file's folder says, train where it says nothing; ``given`` are the parts that had a folder.
    """

    class_names: tuple[str, ...]
    files: list[str]
    labels: NDArray[np.int64]
    parts: NDArray[np.int8]
    given: frozenset[int]
    notes: list[str]


@dataclass(frozen=True)
class Kind:
    """What files are listed: how several are called, which names they have, and what a class may be called."""

    samples: str
    accepts: Callable[[str], bool]
    example: str


def list_pictures(root: Path, *, out: Path | None = None) -> Listing:
    """As :func:`list_classes`, of pictures."""
    return list_classes(root, Kind("pictures", _is_picture, "cat"), out=out)


def list_classes(root: Path, kind: Kind, *, out: Path | None = None) -> Listing:
    """List the files of a kind below ``root`` with their classes and parts.

    Links are followed. Hidden files, and the results of runs (such as that in ``out``), are no data.

    Raises:
        UserError: the folder may not be read, is empty, holds files without class folders, holds fewer than two
            classes, or has classes without files.
    """
    list_folder(root)
    tree = Tree(root, out=out)
    top = tree.top()
    folders = [name for name in top.folders if not tree.is_for_results(name, kind.accepts)]
    notes: list[str] = []
    part_folders = _part_folders(tree, folders, kind)
    if part_folders:
        sources = [(part, name) for name, part in part_folders.items()]
        unused = sorted(set(folders) - set(part_folders))
        if unused:
            notes.append(f"Folders beside train/ were left out: {some(unused)}.")
    else:
        sources = [(TRAIN, "")]
        loose = [name for name in top.files if kind.accepts(name)]
        if loose and not folders:
            raise UserError(
                f"{root} holds {len(loose)} {kind.samples} but no folders; a sub-folder per class is expected: move "
                f"each class's {kind.samples} into a folder named after it, such as {root / kind.example / loose[0]}."
            )
        if loose:
            notes.append(f"{len(loose)} {kind.samples} outside the class folders were left out: {some(loose)}.")
    broken = [name for name in top.files if not (root / name).exists() and not kind.accepts(name)]
    if broken:
        notes.append(f"Links that lead nowhere were left out: {some(broken)}.")
    if not folders:
        raise UserError(f"{root} holds no class folders; a sub-folder per class with its {kind.samples} is expected.")

    found: list[tuple[str, str, int]] = []  # file, class, part
    empty: list[str] = []
    other_files: list[str] = []
    for part, prefix in sources:
        for name in tree.top(prefix).folders if prefix else folders:
            accepted, others = _files(tree, f"{prefix}/{name}" if prefix else name, kind)
            found += [(file, name, part) for file in accepted]
            other_files += others
            if not accepted and part == TRAIN:
                empty.append(f"{prefix}/{name}" if prefix else name)
    class_names = sorted({name for _, name, part in found if part == TRAIN})
    _check_classes(root, class_names, empty, folders, kind)
    unknown = sorted({name for _, name, _ in found} - set(class_names))
    if unknown:
        raise UserError(
            f"{root} has validation or test {kind.samples} of classes that its training folder lacks: "
            f"{some(unknown)}; the same class folders are expected in each: add training {kind.samples} or remove "
            "these folders."
        )
    if other_files:
        notes.append(f"{len(other_files)} files that are not {kind.samples} were left out: {some(other_files)}.")
    notes += tree.left_out.notes()
    index = {name: number for number, name in enumerate(class_names)}
    parts = np.array([part for _, _, part in found], np.int8)
    return Listing(
        class_names=tuple(class_names),
        files=[file for file, _, _ in found],
        labels=np.array([index[name] for _, name, _ in found], np.int64),
        parts=parts,
        given=frozenset(int(part) for part in np.unique(parts)) - {TRAIN},
        notes=notes,
    )


def _check_classes(root: Path, class_names: list[str], empty: list[str], folders: list[str], kind: Kind) -> None:
    if empty:
        raise UserError(
            f"{len(empty)} class folders of {root} hold no {kind.samples}: {some(empty)}; at least one per class is "
            f"expected: add {kind.samples} or remove the folders."
        )
    if len(class_names) == 1:
        hint = f" (if {root / folders[0]} is the data set, give that folder)" if folders == class_names else ""
        raise UserError(
            f"{root} holds one class only, {class_names[0]!r}; at least two class folders are expected: "
            f"add a folder with {kind.samples} of another class{hint}."
        )


def _part_folders(tree: Tree, folders: list[str], kind: Kind) -> dict[str, int]:
    """The folders that are train/val/test, or none: a folder ``train`` with pictures in it is a class of its own."""
    root = tree.root
    parts = {name: PART_NAMES[name.lower()] for name in folders if name.lower() in PART_NAMES}
    if TRAIN not in parts.values():
        if parts and len(parts) == len(folders):
            raise UserError(
                f"{root} has {some(sorted(parts))} but no train folder; the folders train, val and test, "
                "or class folders, are expected: add train/ or give the folder that holds the class folders."
            )
        return {}
    usable = {}
    for name, part in parts.items():
        inside = tree.top(name)
        if inside.folders and not any(map(kind.accepts, inside.files)):
            usable[name] = part
    if TRAIN not in usable.values():
        return {}
    twice = [name for name in usable if list(usable.values()).count(usable[name]) > 1]
    if twice:
        raise UserError(f"{root} has several folders for the same part: {some(sorted(twice))}; keep one of them.")
    return usable


def holds_pictures(root: Path, most: int = 2000) -> bool:
    """Whether a folder is one of pictures: of the first ``most`` files, more than half are, or it holds IDX files."""
    pictures = seen = 0
    for entries in Tree(root, strict=False).walk():
        if any("idx" in name and "images" in name for name in entries.files):
            return True
        seen += len(entries.files)
        pictures += sum(map(_is_picture, entries.files))
        if seen >= most:
            break
    return 2 * pictures > seen


def list_folder(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, hidden files and results of runs left out, by name.

    Raises:
        UserError: it may not be listed, or there is nothing in it.
    """
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{folder} cannot be listed ({error.strerror}); give yourself the right to read it.") from error
    if not entries:
        raise UserError(f"{folder} is empty; a folder with a sub-folder of pictures per class is expected.")
    return [entry for entry in entries if not (is_hidden(entry.name) or (entry.is_dir() and holds_results(entry)))]


def _files(tree: Tree, folder: str, kind: Kind) -> tuple[list[str], list[str]]:
    """Relative names of the files of a kind and of the other files below ``folder``, at any depth, sorted."""
    accepted: list[str] = []
    others: list[str] = []
    for entries in tree.walk(folder):
        for name in entries.files:
            where = entries.folder.relative_to(tree.root) / name
            (accepted if kind.accepts(name) else others).append(where.as_posix())
    return accepted, others


def _is_picture(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in readable_suffixes()


def copies_note(count: int, one: str, many: str) -> str:
    """That so many samples occur twice, of which ``one`` and ``many`` are the names."""
    copies = f"1 {one} is a copy" if count == 1 else f"{count:,} {many} are copies"
    return f"{copies} of another; copies are kept within one part."


def skipped_note(count: int, named: str) -> str:
    """That so many files were skipped, of which some are named."""
    files, were = ("1 file", "was") if count == 1 else (f"{count:,} files", "were")
    return f"{files} that cannot be read {were} skipped: {named}."
