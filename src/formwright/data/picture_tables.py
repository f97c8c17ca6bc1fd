"""Classes of pictures from a table: a column of files and a column of classes, told by what they hold."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from formwright.data.delimited import separated
from formwright.data.encodings import Decoded, decode, read_bytes, start_of
from formwright.data.folders import PART_NAMES, Listing
from formwright.data.preprocess import readable_suffixes
from formwright.data.splits import TRAIN, in_order
from formwright.data.walk import Tree, some
from formwright.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".csv", ".tsv")
#: What columns of classes are called, where several could be one.
_CLASS_NAMES = ("class", "label", "category", "target", "species", "breed", "diagnosis")
_PART_COLUMNS = ("split", "part", "subset", "set", "partition")
MOST_CLASSES = 1000
#: Of the rows of a table that is one of pictures, how many at least name a file.
_MATCHING = 0.5
_LOOKED_AT = 1 << 16


def is_table(path: Path) -> bool:
    """Whether a file is one of those that may name pictures."""
    return path.suffix.lower() in SUFFIXES and os.path.isfile(path)


def find_table(path: Path) -> Path | None:
    """A table that names pictures: a path if it is one, or the first of a folder; none if there is none."""
    if not os.path.isdir(path):  # which takes a name that is too long for none, too
        return path if is_table(path) and _names_files(path) else None
    tree = Tree(path, strict=False)
    tables = [path / name for name in tree.top().files if is_table(path / name)]
    files = _pictures(tree) if tables else {}
    return next((table for table in tables if files and _names_pictures(table, files)), None)


def list_table(
    table: Path,
    *,
    label: str | None = None,
    encoding: str | None = None,
    skip_bad: bool = False,
    out: Path | None = None,
) -> Listing:
    """The pictures that a table names, with their classes and parts.

    The column of files is the one whose cells are names of pictures below the table's folder: with their folders, by
    their names alone or without their endings, where that is unambiguous. The column of classes is ``label``, or told
    by its name or its few different values. A column ``split`` with train, val and test says the parts.

    Raises:
        UserError: a file is missing, a picture has two classes, the class of a row is empty, or no column fits.
    """
    tree = Tree(table.parent, out=out)
    files = _pictures(tree)
    frame, notes = _read(table, encoding, skip_bad)
    matching = {str(name): _matching(cells, files) for name, cells in frame.items()}
    file_column = max(matching, key=lambda name: matching[name])
    if not matching[file_column]:
        raise UserError(
            f"No column of {table} names pictures below {table.parent}; a column of file names is expected, relative "
            "to the table."
        )
    part_column = _part_column(frame)
    label_column = label or _label_column(table, frame, {file_column, part_column})
    if label_column not in frame:
        raise UserError(f"{table} has no column {label!r}; its columns are {', '.join(map(repr, frame.columns))}.")
    found: dict[str, tuple[str, int]] = {}
    bad: list[str] = []
    parts = [TRAIN] * len(frame) if part_column is None else [PART_NAMES[cell.lower()] for cell in frame[part_column]]
    cells = zip(frame[file_column], frame[label_column], parts, strict=True)
    for row, (name, class_name, part) in zip(frame.index, cells, strict=True):
        file = files.get(_key(name))
        if file is None:
            bad.append(f"row {row} names {name!r}, and there is no such picture")
        elif not class_name:
            bad.append(f"row {row} gives {name} no class")
        elif file in found and found[file][0] != class_name:
            bad.append(f"row {row} says that {name} is of class {class_name}, and an earlier one of {found[file][0]}")
        else:
            found[file] = (class_name, part)
    if bad and (not skip_bad or not found):
        raise UserError(
            f"{len(bad)} of {len(frame)} rows of {table} cannot be used: {some(bad)}; mend or remove them, or leave "
            "them out with --skip-bad."
        )
    names = in_order(class_name for class_name, _ in found.values())
    index = {name: number for number, name in enumerate(names)}
    notes += [f"Classes: column {label_column!r} of {table.name}; files: column {file_column!r}."]
    if bad:
        notes.append(f"{len(bad)} rows were left out: {some(bad)}.")
    unnamed = sorted(set(files.values()) - set(found))
    if unnamed:
        notes.append(f"{len(unnamed)} pictures that {table.name} does not name were left out: {some(unnamed)}.")
    part_of = np.array([part for _, part in found.values()], np.int8)
    return Listing(
        class_names=names,
        files=list(found),
        labels=np.array([index[class_name] for class_name, _ in found.values()], np.int64),
        parts=part_of,
        given=frozenset(int(part) for part in np.unique(part_of)) - {TRAIN},
        notes=[*notes, *tree.left_out.notes()],
    )


def _read(table: Path, encoding: str | None = None, skip_bad: bool = False) -> tuple[pd.DataFrame, list[str]]:
    """The cells of a table as texts, indexed by the lines of its rows, and what is to be said of the reading."""
    import pandas as pd

    content = read_bytes(table, "names of pictures and classes are")
    found = separated(decode(content, table, encoding=encoding, skip_bad=skip_bad), table, skip_bad=skip_bad)
    width = len(found.columns)
    rows = [[cell.strip() for cell in cells] + [""] * (width - len(cells)) for cells in found.cells]
    return pd.DataFrame(rows, columns=found.columns, index=found.numbers, dtype=object), found.notes


def _start(table: Path) -> pd.DataFrame | None:
    """The first rows of a table; none if it cannot be read."""
    import pandas as pd

    try:
        found = separated(Decoded(start_of(table, _LOOKED_AT)), table, skip_bad=True)
    except (UserError, OSError):
        return None
    width = len(found.columns)
    return pd.DataFrame([cells + [""] * (width - len(cells)) for cells in found.cells], columns=found.columns)


def _names_files(table: Path) -> bool:
    """Whether a column has names of picture files; whether they are there is seen when they are read."""
    frame = _start(table)
    if frame is None:
        return False
    for _, cells in frame.items():
        names = [_key(cell) for cell in cells if Path(cell).suffix.lower() in readable_suffixes()]
        if len(names) >= _MATCHING * max(len(frame), 1) and len(frame.columns) > 1:
            return True
    return False


def _names_pictures(table: Path, files: Mapping[str, str]) -> bool:
    frame = _start(table)
    return (
        frame is not None
        and len(frame.columns) > 1
        and any(_matching(cells, files) >= _MATCHING for _, cells in frame.items())
    )


def _matching(cells: pd.Series, files: Mapping[str, str]) -> float:
    """The share of cells that name a picture."""
    return sum(_key(cell) in files for cell in cells) / max(len(cells), 1)


def _pictures(tree: Tree) -> dict[str, str]:
    """The pictures of a folder by what a table may call them: whole, by name, or without the ending."""
    names: dict[str, set[str]] = {}
    for entries in tree.walk():
        for name in entries.files:
            if Path(name).suffix.lower() in readable_suffixes():
                file = (entries.folder.relative_to(tree.root) / name).as_posix()
                for key in {file, file.rpartition(".")[0], name, name.rpartition(".")[0]}:
                    names.setdefault(key, set()).add(file)
    whole = {file: file for found in names.values() for file in found}
    return {key: next(iter(found)) for key, found in names.items() if len(found) == 1} | whole


def _key(cell: str) -> str:
    return cell.replace("\\", "/").removeprefix("./")


def _part_column(frame: pd.DataFrame) -> str | None:
    for name in frame.columns:
        if name.lower() in _PART_COLUMNS and all(cell.lower() in PART_NAMES for cell in frame[name]):
            return str(name)
    return None


def _label_column(table: Path, frame: pd.DataFrame, others: set[str | None]) -> str:
    counts = {name: frame[name].nunique() for name in frame.columns if name not in others}
    able = [name for name, count in counts.items() if 2 <= count <= min(MOST_CLASSES, max(2, len(frame) // 2))]
    named = [name for name in able if name.lower() in _CLASS_NAMES]
    chosen = named[:1] or (able if len(able) == 1 else [])
    if not chosen:
        raise UserError(
            f"Which column of {table} holds the classes cannot be told; its columns are "
            f"{', '.join(map(repr, frame.columns))}: name it with --label-column."
        )
    return str(chosen[0])
