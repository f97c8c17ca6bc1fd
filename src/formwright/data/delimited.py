"""The one reader of tables of separated values: cells as text, what the file looks like, and faults by row."""

from __future__ import annotations

import csv
import gc
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from formwright.data.encodings import ESCAPED, REPLACEMENT, Decoded
from formwright.data.walk import some
from formwright.errors import UserError

csv.field_size_limit(1 << 30)  # a text may be a book

#: What may separate cells; where two fit alike, the one that comes first.
SEPARATORS = "\t;|,"
#: Separates nothing: for tables of one column.
_NONE = "\x1f"
#: How columns are called that have no name, with their places behind it.
UNNAMED = "Unnamed: "
#: Characters from which the separator is told.
_LOOKED_AT = 1 << 16
#: The first line by which spreadsheets are told the separator.
_HINT = re.compile(r"sep=([,;\t|])\r?\n?")


@dataclass(frozen=True)
class Style:
    """What a file looks like beside its cells.

    Attributes:
        separator: of cells.
        quoting: ``csv.QUOTE_MINIMAL``, or ``csv.QUOTE_NONE`` where a quote is a letter like any other.
        newline: what ends a line.
    """

    separator: str
    quoting: Literal[0, 3]
    newline: str


@dataclass
class Table:
    """Cells by row.

    Attributes:
        path: of the file.
        columns: the header's names, or ``column 1`` and so on where there is no header.
        cells: of each row, some of which may be shorter than the header.
        numbers: the line that each row begins in, from 1, the header included.
        headed: whether there is a header.
        style: what the file looks like.
        dropped: the rows that were left out, and why.
        replaced: broken characters that were replaced.
    """

    path: Path
    columns: list[str]
    cells: list[list[str]]
    numbers: list[int]
    headed: bool = True
    style: Style = Style(",", csv.QUOTE_MINIMAL, "\n")
    dropped: list[tuple[int, str]] = field(default_factory=list)
    replaced: int = 0

    def drop(self, number: int, reason: str) -> None:
        """Note a row that is left out."""
        self.dropped.append((number, reason))

    @property
    def skipped(self) -> list[str]:
        """The rows that were left out in their order, and why."""
        return [f"row {number} of {self.path.name} ({reason})" for number, reason in sorted(self.dropped)]

    @property
    def notes(self) -> list[str]:
        """What was left out or replaced, in sentences."""
        return told(self.skipped, self.replaced)


def told(skipped: list[str], replaced: int) -> list[str]:
    """How many rows were left out and which, and how many broken characters were replaced, in sentences."""
    notes = []
    if skipped:
        notes.append(f"{len(skipped)} row{'s were' if len(skipped) != 1 else ' was'} left out: {some(skipped, 5)}.")
    if replaced:
        broken = "broken character was" if replaced == 1 else "broken characters were"
        notes.append(f"{replaced} {broken} replaced by U+FFFD.")
    return notes


def separated(
    decoded: Decoded, path: Path, *, headed: Callable[[list[list[str]]], bool] | None = None, skip_bad: bool = False
) -> Table:
    """The table in a text of separated values.

    Cells that are empty behind the last column are cut, and blank lines are no rows.

    Args:
        headed: whether the first of some rows names columns; it does if unset.
        skip_bad: leave out rows that cannot be read, instead of refusing the table.

    Raises:
        UserError: a row has broken quotes or more cells than columns, or two columns have one name.
    """
    text, before = decoded.text, 0
    hint = _HINT.match(text)
    if hint:
        text, before = text[hint.end() :], 1
    faults: list[tuple[int, str]] = []
    style = style_of(text, hint[1] if hint else None)
    with without_collection():
        rows = [
            (number + before, cells)
            for number, cells in _parsed(text, style, faults if skip_bad else None, path)
            if cells and (cells[-1] or any(map(str.strip, cells)))
        ]
    if not rows:
        raise UserError(f"{path} has no rows; a table with a header and rows below it is expected.")
    first = rows[0][1]
    named = headed is None or headed([cells for _, cells in rows[:2001]])
    body = rows[1:] if named else rows
    widths = [len(cells) if cells[-1] else len(_cut(cells)) for _, cells in body]
    if named:
        if body and all(width == len(first) + 1 for width in widths):  # the names of rows have none themselves
            first = ["", *first]
        width = max(len(_cut(first)), min(len(first), max(widths, default=0)))
        columns = [name.strip() or f"{UNNAMED}{place}" for place, name in enumerate(first[:width])]
        twice = [name for name, count in Counter(columns).items() if count > 1]
        if twice:
            raise UserError(f"{path} has two columns named {twice[0]!r}; rename one.")
    else:
        columns = [f"column {place + 1}" for place in range(Counter(widths).most_common(1)[0][0])]
    escaped = skip_bad and ESCAPED.search(text) is not None
    columns = [ESCAPED.sub(REPLACEMENT, name) for name in columns] if escaped else columns
    table = Table(path, columns, [], [], named, style, replaced=decoded.replaced)
    for number, reason in faults:
        table.drop(number + before, reason)
    if max(widths, default=0) <= len(columns) and not escaped:
        table.cells = [cells[: len(columns)] if len(cells) > len(columns) else cells for _, cells in body]
        table.numbers = [number for number, _ in body]
        return table
    for (number, cells), width in zip(body, widths, strict=True):
        if width > len(columns):
            reason = f"{width} columns where {len(columns)} are expected"
            if not skip_bad:
                raise UserError(f"{path}, row {number}: {reason}; mend it, or leave such rows out with --skip-bad.")
            table.drop(number, reason)
            continue
        if escaped and any(map(ESCAPED.search, cells)):
            table.drop(number, "it holds bytes that cannot be read")
            continue
        table.cells.append(cells[: len(columns)])
        table.numbers.append(number)
    return table


@contextmanager
def without_collection() -> Iterator[None]:
    """Collect no garbage for a while: nothing that is made meanwhile refers to itself."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


def style_of(text: str, separator: str | None = None) -> Style:
    """What a text of separated values looks like; ``separator`` if it is known."""
    line = re.search(r"\r\n|\n|\r", text)
    newline = line[0] if line else "\n"
    start = text if len(text) <= _LOOKED_AT else text[:_LOOKED_AT].rpartition(newline)[0]
    best, most = Style(_NONE, csv.QUOTE_MINIMAL, newline), 0.0
    for one in separator or SEPARATORS:
        # Tab-separated files mostly know no quotes: a quote in a text is one.
        for quoting in (csv.QUOTE_NONE, csv.QUOTE_MINIMAL) if one == "\t" else (csv.QUOTE_MINIMAL,):
            style = Style(one, quoting, newline)
            share = _regular(start, style) if one in start.partition(newline)[0] or separator else 0.0
            if share > most or (separator and most == 0):
                best, most = style, share
    return best


def _regular(text: str, style: Style) -> float:
    """The share of rows that are as wide as the first, if that has several cells."""
    widths = [len(_cut(cells)) for _, cells in _parsed(text, style, [], Path()) if any(cells)]
    return widths.count(widths[0]) / len(widths) if widths and widths[0] > 1 else 0.0


def _parsed(
    text: str, style: Style, faults: list[tuple[int, str]] | None, path: Path
) -> Iterator[tuple[int, list[str]]]:
    """Rows with the numbers of their first lines; faults are collected, or raised where there is no list for them."""
    spaced = style.quoting != csv.QUOTE_NONE
    stream, before = io.StringIO(text, newline=""), 0
    while True:
        place, number = stream.tell(), before + 1
        reader = csv.reader(
            stream, delimiter=style.separator, quoting=style.quoting, strict=True, skipinitialspace=spaced
        )
        try:
            for cells in reader:
                yield number, cells
                number = before + reader.line_num + 1
            return
        except csv.Error as error:
            if faults is None:
                remedy = "mend the quotes of that row, or leave such rows out with --skip-bad"
                raise UserError(f"{path}, row {number}: {error}; {remedy}.") from None
            faults.append((number, str(error)))
            stream.seek(place)  # go on in the line after that in which the broken row begins
            for _ in range(number - before):
                stream.readline()
            before = number


def _cut(cells: list[str]) -> list[str]:
    """Without the empty cells at the end."""
    end = len(cells)
    while end > 1 and not cells[end - 1].strip():
        end -= 1
    return cells[:end]
