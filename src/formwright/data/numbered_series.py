"""Series that each have a number to be told: a row for each series or step, brought to one length, cut into parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from formwright.data.labelled_series import (
    Columns,
    LabelledSeries,
    drop_bad_rows,
    find_columns,
    labelled_series,
    split_rows,
)
from formwright.data.series_files import cells_of, column_of, drop_bad_cells, groups_of
from formwright.data.sheets import Sheet, read_sheet
from formwright.errors import UserError

#: Fewest series that a number can be learned from.
FEWEST = 10


@dataclass(frozen=True)
class NumberedSeries:
    """Series with numbers.

    Attributes:
        series: the series and their parts, all of one class.
        numbers: of each, ``(series,)``.
    """

    series: LabelledSeries
    numbers: NDArray[np.float64]

    def part(self, *names: str) -> NDArray[np.float64]:
        """The numbers of the series of some parts."""
        return np.concatenate([self.numbers[self.series.split.part(name)] for name in names])

    @property
    def source(self) -> str:
        return self.series.source

    @property
    def notes(self) -> tuple[str, ...]:
        return self.series.notes

    def save_splits(self, path: str | Path) -> None:
        self.series.save_splits(path)

    def check_splits(self, path: str | Path) -> None:
        self.series.check_splits(path)


def numbered_series(
    raw: Sequence[NDArray[np.float64]],
    numbers: NDArray[np.float64],
    *,
    names: Sequence[str] | None = None,
    columns: Columns | None = None,
    source: str = "arrays",
    seed: int = 0,
    notes: Sequence[str] = (),
) -> NumberedSeries:
    """Series from memory: each ``(steps, variates)``, with its number ``(series,)``, split by chance.

    Raises:
        UserError: there are too few series, or their numbers are all the same.
    """
    if len(raw) < FEWEST or np.ptp(numbers) == 0:
        found = f"{len(raw)} series" if len(raw) < FEWEST else f"one and the same number, {numbers[0]:g}"
        raise UserError(
            f"There is {found} to learn from; at least {FEWEST} series with different numbers are expected."
        )
    labels = np.zeros(len(raw), np.int64)
    series = labelled_series(raw, labels, ("all",), names=names, columns=columns, source=source, seed=seed, notes=notes)
    return NumberedSeries(series, np.asarray(numbers, np.float64))


def read_numbered_series(
    path: str | Path,
    *,
    target: str | None = None,
    series: str | None = None,
    time: str | None = None,
    seed: int = 0,
    encoding: str | None = None,
    skip_bad: bool = False,
) -> NumberedSeries:
    """Read series and their numbers from a table as :func:`~formwright.data.labelled_series.read_labelled_series` does.

    Raises:
        UserError: the table, a column or a cell cannot be used; row and column are named.
    """
    if target is None:
        raise UserError("Nothing says which number is to be told of each series; name its column with --target.")
    sheet = read_sheet(path, encoding=encoding, skip_bad=skip_bad, keep=(series, time))
    column_of(sheet.frame, target, "--target")
    columns, guesses = find_columns(sheet.frame, target, series, time)
    if skip_bad:
        drop_bad_rows(sheet, columns)
        drop_bad_cells(sheet, (target,), None)
    raw, names, bad = split_rows(sheet, columns)
    if bad and (not skip_bad or not raw):
        raise UserError(next(iter(bad.values())))
    found = _numbers(sheet, columns)
    notes = [*sheet.notes, *guesses, *(f"Left out: {why}" for why in bad.values())]
    numbers = np.array([found[name] for name in names])
    return numbered_series(raw, numbers, names=names, columns=columns, source=str(path), seed=seed, notes=notes)


def _numbers(sheet: Sheet, columns: Columns) -> dict[str, float]:
    """The number of each series by its name.

    Raises:
        UserError: a number is missing or is none, or a series has several; names the row.
    """
    values, faults = cells_of(sheet.frame, (columns.label,))
    if faults:
        raise UserError(next(iter(faults.values())))
    given, rows = values[:, 0], sheet.frame.index
    missing = np.flatnonzero(~np.isfinite(given))
    if len(missing):
        row = rows[missing[0]]
        raise UserError(f"Column {columns.label!r} has no number in row {row}; fill it in, or leave the row out.")
    if columns.series is None:
        return {f"row {number}": float(value) for number, value in zip(rows, given, strict=True)}
    found = {}
    for name, group in groups_of(sheet, columns.series).items():
        other = next((int(row) for row in group if given[row] != given[group[0]]), None)
        if other is not None:
            raise UserError(
                f"Series {name!r} has {given[group[0]]:g} in column {columns.label!r} at first and {given[other]:g} in "
                f"row {rows[other]}; a series has one number."
            )
        found[name] = float(given[group[0]])
    return found
