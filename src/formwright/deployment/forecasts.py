"""From a forecaster's outputs to the next steps of a series, and to rows of a table."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formwright.errors import UserError
from formwright.files import write_atomically

Values = NDArray[np.float64]
LOW, HIGH = "_low", "_high"


@dataclass(frozen=True)
class Forecast:
    """The next steps of one series.

    Attributes:
        series: its name; empty for the only one of a file.
        times: ``(horizon,)``, as text.
        columns: what is forecast.
        values, low, high: ``(horizon, columns)``, in the units of the file; the interval holds with ``coverage``.
        coverage: how often the interval is to hold.
        time_column, series_column: what the file calls its times and names.
    """

    series: str
    times: list[str]
    columns: tuple[str, ...]
    values: Values
    low: Values
    high: Values
    coverage: float
    time_column: str
    series_column: str | None

    def to_json(self) -> dict[str, Any]:
        record = dataclasses.asdict(self)
        return {**record, **{name: getattr(self, name).tolist() for name in ("values", "low", "high")}}

    def rows(self) -> list[dict[str, str]]:
        """A row of a table for each step: text by column, intervals as ``<column>_low`` and ``<column>_high``."""
        found = []
        for step, time in enumerate(self.times):
            row = {} if self.series_column is None else {self.series_column: self.series}
            row[self.time_column] = time
            for index, name in enumerate(self.columns):
                row[name] = f"{self.values[step, index]:.7g}"
                row[name + LOW] = f"{self.low[step, index]:.7g}"
                row[name + HIGH] = f"{self.high[step, index]:.7g}"
            found.append(row)
        return found

    def cells(self) -> dict[str, str]:
        """The first and the last step, for a table on the terminal."""
        row = {"series": self.series} if self.series else {}
        row |= {"from": self.times[0], "to": self.times[-1]}
        for index, name in enumerate(self.columns[:6]):
            row[name] = f"{self.values[0, index]:.4g} … {self.values[-1, index]:.4g}"
        return row


def append_forecasts(path: str | os.PathLike[str], answers: Sequence[Any]) -> int:
    """Add the forecasts to a CSV file, a row for each step, and return how many rows were added.

    A new file has columns for the intervals; one that is there keeps its columns, and gets what it has columns for.
    The file is replaced as a whole, so that it is never half written.

    Raises:
        UserError: the answers are no forecasts, the file lacks a column that is forecast, or has rows of these times.
    """
    path = Path(path)
    forecasts = [answer for answer in answers if isinstance(answer, Forecast)]
    if not forecasts or len(forecasts) < len(answers):
        raise UserError("Only forecasts of series can be appended to a file (--append); leave the option out.")
    rows = [row for forecast in forecasts for row in forecast.rows()]
    names = list(rows[0])
    text = ""
    if path.is_file() and path.stat().st_size:
        text = path.read_text(encoding="utf-8")
        reader = csv.DictReader(io.StringIO(text))
        first = forecasts[0]
        names = list(reader.fieldnames or [])
        needed = [first.time_column, *first.columns, *([] if first.series_column is None else [first.series_column])]
        lacking = [name for name in needed if name not in names]
        if lacking:
            raise UserError(f"{path} has no column {lacking[0]!r} to append forecasts to; name another file.")
        _check_new(path, reader, rows, [name for name in (first.series_column, first.time_column) if name], needed)
        text = text if text.endswith("\n") else text + "\n"
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, names, extrasaction="ignore", restval="", lineterminator="\n")
    if not text:
        writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text + buffer.getvalue())
    return len(rows)


def _check_new(
    path: Path, reader: csv.DictReader[str], rows: Sequence[dict[str, str]], keys: Sequence[str], needed: Sequence[str]
) -> None:
    """Refuse rows whose time the file has already: it would be no series any more."""

    def key(row: dict[str, str]) -> tuple[str, ...]:
        return tuple(_plain(row[name] or "") for name in keys)

    wanted = {key(row) for row in rows}
    for row in reader:
        if key(row) in wanted:
            raise UserError(
                f"{path} has a row of {' '.join(row[name] for name in keys)} already; give a file that ends before the "
                "forecast, or a new one."
            )


def _plain(time: str) -> str:
    """A time without the parts that are nought, so that two ways of writing it are equal."""
    time = time.strip().replace("T", " ").removesuffix(" 00:00:00").removesuffix(" 00:00")
    return time.removesuffix(":00") if time.count(":") == 2 else time
