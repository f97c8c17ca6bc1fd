"""Tables as data frames: numbers as numbers, however they are written, and beside them every cell as text."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from formwright.data.delimited import UNNAMED, Table, separated, without_collection
from formwright.data.encodings import Decoded, decode, read_bytes
from formwright.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

READERS = {
    ".csv": "CSV",
    ".tsv": "CSV",
    ".txt": "CSV",
    ".parquet": "Parquet",
    ".feather": "Feather",
    ".arrow": "Feather",
}
#: The line of a file in which its first row of values stands.
FIRST_LINE = 2
#: What stands for a missing value in a column of numbers or times, in lower case.
_MISSING = frozenset(
    ("", "na", "n/a", "nan", "null", "none", "<na>", "#n/a", "#na", "#n/a n/a", "-nan", "1.#ind", "-1.#ind", "1.#qnan",
     "-1.#qnan")
)  # fmt: skip
#: Cells from which the decimal sign is told.
_LOOKED_AT = 20_000
_COMMA = re.compile(r"[+-]?(\d+|\d{1,3}([.'\s]\d{3})+),\d+|[+-]?\d{1,3}(\.\d{3}){2,}")
_GROUPS = re.compile(r"[+-]?\d{1,3}([,'\s]\d{3})+")
_POINT = re.compile(r"[+-]?(\d+\.(\d{1,2}|\d{4,}|\d+[eE][+-]?\d+)|\d{1,3}([,'\s]\d{3})+\.\d+|\d{1,3}(,\d{3}){2,})")
_WRITTEN = {
    ",": re.compile(r"[+-]?(\d+|\d{1,3}([.'\s]\d{3})+)?(,\d*)?([eE][+-]?\d+)?"),
    ".": re.compile(r"[+-]?(\d+|\d{1,3}([,'\s]\d{3})+)?(\.\d*)?([eE][+-]?\d+)?"),
}
_TRUTHS = {"true": 1.0, "false": 0.0}


@dataclass
class Sheet:
    """A table with names.

    Attributes:
        path: of the file.
        frame: its columns, of numbers where all cells that hold anything are; the index says the line of each row.
        table: its cells as text, if it is a file of separated values.
        signs: the sign before the decimals of each column, as far as its cells or those of others show it.
        told: further sentences for the notes.
    """

    path: Path
    frame: pd.DataFrame
    table: Table | None = None
    signs: dict[str, str] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    _texts: dict[str, NDArray[Any]] = field(default_factory=dict)

    @property
    def notes(self) -> list[str]:
        """What was left out, replaced or inferred, in sentences."""
        if self.table is None:
            return [*self.told]
        commas = [
            name for name in map(str, self.frame) if self.signs[name] == "," and self.frame[name].dtype.kind == "f"
        ]
        seen = any("," in cell for name in commas for cell in _column(self.table, name))
        return [*self.table.notes, *(["Numbers are read with a decimal comma."] if seen else []), *self.told]

    def text(self, name: str) -> NDArray[Any]:
        """The cells of a column as they are written, ``None`` where they are empty: what names and classes are."""
        if name not in self._texts:
            self._texts[name] = self._text(name)
        return self._texts[name].copy()

    def _text(self, name: str) -> NDArray[Any]:
        if self.table is None:
            return np.array([_as_text(value) for value in self.frame[name].tolist()], object)
        cells = _column(self.table, name)
        if len(self.frame) < len(cells):
            at = dict(zip(self.table.numbers, cells, strict=True))
            cells = [at[number] for number in self.frame.index]
        places, distinct = _factorised(cells)
        return np.array([cell.strip() or None for cell in distinct], object)[places]

    def drop(self, wrong: NDArray[np.bool_], reasons: Sequence[str]) -> None:
        """Leave out rows, and note why."""
        for number, reason in zip(self.frame.index[wrong], reasons, strict=True):
            if self.table is not None:
                self.table.drop(int(number), reason)
        self.frame = self.frame[~wrong]
        self._texts.clear()


def read_sheet(
    path: str | Path, *, encoding: str | None = None, skip_bad: bool = False, keep: Collection[str | None] = ()
) -> Sheet:
    """The table in a file.

    A first column without a name that counts the rows is left out.

    Args:
        encoding: of a file of separated values that is neither marked nor UTF-8.
        skip_bad: leave out rows that cannot be read, instead of refusing the table.
        keep: columns that are asked for, whatever they hold.

    Raises:
        UserError: there is no such file, it is of another kind or damaged, or it has no rows.
    """
    path = Path(path)
    if not os.path.isfile(path):  # which takes a name that is too long for none, too
        raise UserError(f"There is no file {path}; give a .csv, .parquet or .feather file of series.")
    kind = READERS.get(path.suffix.lower())
    if kind is None:
        raise UserError(f"{path} is not a table of a kind that is read: give a .csv, .parquet or .feather file.")
    if kind == "CSV":
        decoded = decode(read_bytes(path, "series are"), path, encoding=encoding, skip_bad=skip_bad)
        return sheet_of(decoded, path, skip_bad=skip_bad, keep=keep)
    import pandas as pd

    try:
        if kind == "Parquet":
            frame = pd.read_parquet(path).reset_index(drop=False)
            frame = frame.drop(columns=[name for name in ("index",) if name in frame.columns])
        else:
            frame = pd.read_feather(path)
    except Exception as error:  # parsers raise what they please on damaged files
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(f"{path} cannot be read as {kind}: {reason}; give a whole file.") from None
    if not len(frame) or not len(frame.columns):
        raise _no_rows(path)
    frame.columns = pd.Index([str(name).strip() for name in frame.columns])
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise UserError(f"{path} has two columns named {twice[0]!r}; rename one.")
    frame.index = pd.RangeIndex(FIRST_LINE, FIRST_LINE + len(frame))
    return Sheet(path, frame)


def sheet_of(decoded: Decoded, path: Path, *, skip_bad: bool = False, keep: Collection[str | None] = ()) -> Sheet:
    """The table in a text of separated values; see :func:`read_sheet`."""
    import pandas as pd

    with without_collection():  # which would look at every cell again and again
        table = separated(decoded, path, skip_bad=skip_bad)
        if not table.cells:
            raise _no_rows(path)
        columns = _columns(table)
        signs = _signs(columns, table.style.separator)
        frame = pd.DataFrame({name: _typed(cells, signs[name]) for name, cells in columns.items()})
    frame.index = pd.Index(table.numbers)
    first = table.columns[0]
    counts = frame[first].to_numpy() if frame[first].dtype.kind == "i" else None
    if counts is not None and first == f"{UNNAMED}0" and first not in keep and (np.diff(counts) == 1).all():
        frame = frame.drop(columns=first)
    return Sheet(path, frame, table, signs)


#: Cells of a column by which it is told whether they repeat.
_FEW = 2000


def _columns(table: Table) -> dict[str, Sequence[str]]:
    """The cells of each column."""
    cells, width = list(itertools.chain.from_iterable(table.cells)), len(table.columns)
    if len(cells) < width * len(table.cells):  # some rows are shorter than the header
        return {name: _column(table, name) for name in table.columns}
    return {name: cells[place::width] for place, name in enumerate(table.columns)}


def _column(table: Table, name: str) -> list[str]:
    place = table.columns.index(name)
    return [cells[place] if place < len(cells) else "" for cells in table.cells]


def _factorised(cells: Sequence[str]) -> tuple[NDArray[np.int64], list[str]]:
    """Each cell as its place among the distinct ones, and these."""
    import pandas as pd

    places, distinct = pd.factorize(np.array(cells, object))
    return places, list(distinct)


def _typed(cells: Sequence[str], sign: str) -> Any:
    """A column of numbers if all cells that hold anything are numbers or truths, else of texts and ``None``."""
    if len(cells) > _FEW and 4 * len(set(cells[:_FEW])) < _FEW:  # names and times repeat: one look at each is enough
        places, distinct = _factorised(cells)
        return _typed_each(distinct, sign)[places]
    return _typed_each(cells, sign)


def _typed_each(cells: Sequence[str], sign: str) -> Any:
    import pandas as pd

    written = cells if sign == "" else [_plain(cell.strip(), sign) for cell in cells]
    values = pd.to_numeric(pd.Series(written, dtype=object), errors="coerce")
    places = np.flatnonzero(values.isna().to_numpy()).tolist()
    if not places:
        return values.to_numpy()
    cells = [cell.strip() for cell in cells]
    there = [place for place in places if cells[place].lower() not in _MISSING]
    if not there:
        return values.to_numpy()
    truths = [_TRUTHS.get(cells[place].lower()) for place in there]
    if len(places) == len(cells) and None not in truths:
        found = np.full(len(cells), np.nan)
        found[there] = truths
        return found.astype(bool) if len(there) == len(cells) else found
    texts = np.array(written if 2 * len(there) < len(cells) else cells, object)
    texts[[place for place in places if cells[place].lower() in _MISSING]] = None
    texts[there] = [cells[place] for place in there]
    return texts


def _signs(columns: dict[str, Sequence[str]], separator: str) -> dict[str, str]:
    """The decimal sign of each column; empty where all numbers are plain."""
    each = max(_LOOKED_AT // max(len(columns), 1), 20)
    votes = {name: _votes(cells[:each]) for name, cells in columns.items()}
    if not any(grouped for _, grouped, _ in votes.values()):
        return dict.fromkeys(columns, "")
    commas, points = (sum(vote[place] for vote in votes.values()) for place in (0, 2))
    usual = "," if commas > points or (commas == points and separator != ",") else "."
    return {
        name: usual if comma == point else "," if comma > point else "." for name, (comma, _, point) in votes.items()
    }


def _votes(cells: Sequence[str]) -> tuple[int, int, int]:
    """How many cells show a decimal comma, are not written as Python writes numbers, and show a decimal point."""
    comma = grouped = point = 0
    for cell in map(str.strip, cells):
        if cell and cell[-1].isdigit() and not cell.isdigit():
            if _GROUPS.fullmatch(cell) and cell.count(",") < 2:
                grouped += 1
            elif _POINT.fullmatch(cell):
                point += 1
                grouped += not cell.replace(".", "").lstrip("+-").isalnum()
            elif _COMMA.fullmatch(cell):
                comma += 1
                grouped += 1
    return comma, grouped, point


def _plain(cell: str, sign: str) -> str:
    """A number as Python writes it; other cells as they are, unless Python would take them for numbers."""
    if not cell or not _WRITTEN[sign].fullmatch(cell):
        return "?" if sign == "," and "." in cell else cell
    for mark in ".'" if sign == "," else ",'":
        cell = cell.replace(mark, "")
    return re.sub(r"\s", "", cell).replace(",", ".")


def _as_text(value: Any) -> str | None:
    if value is None or value != value:
        return None
    return str(int(value)) if isinstance(value, float) and value == int(value) else str(value).strip()


def _no_rows(path: Path) -> UserError:
    return UserError(f"{path} has no rows; a table with a column of times and columns of numbers is expected.")
