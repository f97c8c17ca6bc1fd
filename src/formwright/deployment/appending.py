"""Forecasts as further rows of a user's table, which keeps what it looks like, and every byte that it had."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from formwright.data.delimited import UNNAMED, Table, separated
from formwright.data.encodings import Decoded, decode, read_bytes
from formwright.data.sheets import READERS, sheet_of
from formwright.data.times.readings import readings
from formwright.deployment.forecasts import Forecast
from formwright.errors import UserError
from formwright.files import rewrite, write_atomically

_BLANK = " \t\r\n\ufeff"


def append_forecasts(path: str | os.PathLike[str], answers: Sequence[Any], *, encoding: str | None = None) -> int:
    """Add the forecasts to a table, a row for each step, and return how many rows were added.

    A new file has columns for the intervals; one that is there keeps its columns, and gets what it has columns for, in
    its own separator, decimal sign, quotes, ends of lines and encoding. What it held stays as it is, byte for byte. The
    file is replaced as a whole, so that it is never half written.

    Raises:
        UserError: the answers are no forecasts, the file is no such table, lacks a column that is forecast, or has rows
            of these times.
    """
    path = Path(path)
    forecasts = [answer for answer in answers if isinstance(answer, Forecast)]
    if not forecasts or len(forecasts) < len(answers):
        raise UserError("Only forecasts of series can be appended to a file (--append); leave the option out.")
    if path.is_dir() or READERS.get(path.suffix.lower(), "CSV") != "CSV":
        raise UserError(f"Forecasts are appended to tables as text, and {path} is none; name a .csv file (--append).")
    rows = [row for forecast in forecasts for row in forecast.rows()]
    content = path.read_bytes() if path.is_file() else b""
    if not content.strip():
        written = io.StringIO()
        writer = csv.DictWriter(written, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(path.resolve(), written.getvalue())
        return len(rows)
    decoded = decode(read_bytes(path), path, encoding=encoding)
    table = separated(decoded, path)
    first = forecasts[0]
    keys = [name for name in (first.series_column, first.time_column) if name]
    lacking = [name for name in (*keys, *first.columns) if name not in table.columns]
    if lacking:
        raise UserError(f"{path} has no column {lacking[0]!r} to append forecasts to; name another file.")
    rows = _in_time(table, rows, keys)
    added = _Writer.like(decoded, table).text(rows, first.columns)
    try:
        rewrite(path, content + added.encode(decoded.encoding))
    except UnicodeEncodeError as error:
        raise UserError(
            f"{path} is in {decoded.encoding}, which has no {added[error.start]!r}; name another file (--append)."
        ) from None
    return len(rows)


@dataclass(frozen=True)
class _Writer:
    """Writes rows as the last one of a table is written.

    Attributes:
        table: to which rows are added.
        commas: the columns whose numbers have a decimal comma.
        cells: of the last row as they stand, with quotes and blanks.
        newline: what ends a line.
        ended: whether the last line is ended.
    """

    table: Table
    commas: frozenset[str]
    cells: tuple[str, ...]
    newline: str
    ended: bool

    @classmethod
    def like(cls, decoded: Decoded, table: Table) -> Self:
        text = decoded.text
        ended = re.search(r"(\r\n|\n|\r)\Z", text)
        last = re.split(r"\r\n|\n|\r", text.rstrip(_BLANK))[-1]
        cells = tuple(_fields(last, table.style.separator, quoted=table.style.quoting != csv.QUOTE_NONE))
        if len(cells) < len(table.columns):  # a row of several lines, or one that lacks cells
            cells = ("",) * len(table.columns)
        signs = sheet_of(decoded, table.path).signs if table.cells else {}
        commas = frozenset(name for name, sign in signs.items() if sign == ",")
        return cls(table, commas, cells, ended[1] if ended else table.style.newline, ended is not None)

    def text(self, rows: Sequence[dict[str, str]], numbers: Sequence[str]) -> str:
        """The rows; where nothing ends the last line of the table, with what does, and without it at their own end."""
        lines = [self._line(row, numbers) for row in self._counted(rows)]
        whole = self.newline.join(lines)
        return f"{whole}{self.newline}" if self.ended else f"{self.newline}{whole}"

    def _counted(self, rows: Sequence[dict[str, str]]) -> Iterator[dict[str, str]]:
        """The rows, and their numbers where the first column counts them without a name."""
        first, count = self.table.columns[0], [row[0].strip() for row in self.table.cells[-2:]]
        counts = first == f"{UNNAMED}0" and all(map(str.isdecimal, count)) and bool(count)
        counts = counts and int(count[-1]) - int(count[0]) == len(count) - 1
        for number, row in enumerate(rows, start=int(count[-1]) + 1 if counts else 0):
            yield {**row, first: str(number)} if counts and first not in row else row

    def _line(self, row: dict[str, str], numbers: Sequence[str]) -> str:
        names = [*self.table.columns, *[""] * (len(self.cells) - len(self.table.columns))]
        cells = []
        for name, like in zip(names, self.cells, strict=True):
            value = row.get(name, "")
            if name in self.commas and name in numbers:
                value = value.replace(".", ",")
            cells.append(self._cell(value, like))
        return self.table.style.separator.join(cells)

    def _cell(self, value: str, like: str) -> str:
        blanks = like[: len(like) - len(like.lstrip(" "))] if like.strip() else ""
        if self.table.style.quoting == csv.QUOTE_NONE:
            return blanks + value
        needed = any(letter in value for letter in (self.table.style.separator, '"', "\r", "\n"))
        return blanks + ('"' + value.replace('"', '""') + '"' if needed or like.strip().startswith('"') else value)


def _fields(line: str, separator: str, *, quoted: bool) -> Iterator[str]:
    """The cells of a line as they stand, with their quotes."""
    if not quoted:
        yield from line.split(separator)
        return
    sign = re.escape(separator)
    for found in re.finditer(rf'( *"(?:[^"]|"")*" *|[^{sign}]*)(?:{sign}|$)', line):
        yield found[1]
        if found.end() == len(line) and not found[0].endswith(separator):
            return


def _in_time(table: Table, rows: Sequence[dict[str, str]], keys: Sequence[str]) -> list[dict[str, str]]:
    """The rows with times as the table writes them; ``keys`` are the columns of series, if there is one, and of times.

    Raises:
        UserError: the table has such a time already, or writes times quite differently: it would be no series any more.
    """
    import pandas as pd

    time, count = keys[-1], len(table.cells)
    places = [table.columns.index(name) for name in keys]
    old = [tuple(cells[place].strip() if place < len(cells) else "" for place in places) for cells in table.cells]
    both = [*old, *(tuple(row[name] for name in keys) for row in rows)]
    column = pd.Series([key[-1] for key in both], dtype=object, index=[*table.numbers, *range(len(rows))])
    try:
        way = readings(column, time)[0]
        alike = max(way.faults or {}, default=0) < max(count, 1)
    except UserError:
        alike = False
    if not alike:
        raise UserError(
            f"{table.path} writes times as {old[-1][-1]}, and the forecast is of {both[count][-1]}; append it to the "
            "table that it was made from, or to a new one."
        )
    instants = way.times if way.offsets is None else way.times - way.offsets * np.timedelta64(1, "m")
    moments = [(*key[:-1], instant) for key, instant in zip(both, instants.tolist(), strict=True)]
    new = set(moments[count:])
    for key, moment in zip(old, moments, strict=False):
        if moment in new:
            row = " ".join(key)
            raise UserError(
                f"{table.path} has a row of {row} already; give a file that ends before the forecast, or a new one."
            )
    if not old or way.offsets is not None:
        return list(rows)
    written = readings(column.iloc[:count], time, like=way.format)[0].format
    times = [written.write(when, instant=False) for when in way.times[count:]]
    return [{**row, time: when} for row, when in zip(rows, times, strict=True)]
