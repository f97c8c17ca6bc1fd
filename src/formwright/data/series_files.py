"""Tables of series as users have them: CSV, Parquet or Feather, wide or long, checked row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from formwright.data.calendar import Frequency
from formwright.data.encodings import Decoded, start_of
from formwright.data.series import ColumnRoles, Series, SeriesData, arrange
from formwright.data.sheets import READERS, Sheet, read_sheet, sheet_of
from formwright.data.time_axis import common_frequency, on_regular_axis, read_times
from formwright.errors import UnknownNameError, UserError

if TYPE_CHECKING:
    import pandas as pd

#: Names under which people keep the time and the name of a series.
TIME_NAMES = ("time", "date", "datetime", "timestamp", "ds", "period", "month", "day")
SERIES_NAMES = ("unique_id", "series", "series_id", "item_id", "id", "name", "key")


@dataclass(frozen=True)
class SeriesTable:
    """What a file holds: series on regular axes, and what their columns are.

    Attributes:
        source: the file.
        series: one for a wide table, one a name for a long one.
        layout: what the columns are.
        frequency: the step of the time axis.
        time_column: the name of the column of times.
        series_column: the name of the column of series' names, if the table is long.
        notes: what the user should know: gaps that were found, columns that were left out.
    """

    source: str
    series: tuple[Series, ...]
    layout: ColumnRoles
    frequency: Frequency
    time_column: str
    series_column: str | None
    notes: tuple[str, ...]


def read_series(
    path: str | Path,
    *,
    horizon: int | None = None,
    target: str | Sequence[str] | None = None,
    length: int | None = None,
    time: str | None = None,
    series: str | None = None,
    known: Sequence[str] = (),
    encoding: str | None = None,
    skip_bad: bool = False,
) -> tuple[SeriesTable, SeriesData]:
    """Series to forecast, from a file, and cut into parts by time: :func:`read_table`, then :func:`arrange`.

    Args:
        path: a ``.csv``, ``.parquet`` or ``.feather`` file with a column of times.
        horizon: steps to forecast; a season, or a twentieth of the rows, if unset.
        target: the column or columns to forecast; all columns of numbers that are not ``known`` if unset.
        length: steps to look back on; two seasons or the horizon, whichever is more, if unset.
        time: the column of times; found by its name or content if unset.
        series: the column that says which series a row is of, in a long table; found if unset.
        known: columns that are known ahead of time, such as prices and holidays.
        encoding: of a CSV file that is neither marked nor UTF-8.
        skip_bad: leave out rows that cannot be used, and count them, instead of refusing the table.

    Raises:
        UserError: the file, a column or the time axis cannot be used; row and column are named.
    """
    table = read_table(path, target=target, time=time, series=series, known=known, encoding=encoding, skip_bad=skip_bad)
    return table, arrange(
        table.series,
        table.layout,
        table.frequency,
        horizon=horizon,
        length=length,
        source=table.source,
        notes=table.notes,
    )


def read_table(
    path: str | Path,
    *,
    target: str | Sequence[str] | None = None,
    time: str | None = None,
    series: str | None = None,
    past: Sequence[str] | None = None,
    known: Sequence[str] = (),
    keep_all: bool = False,
    encoding: str | None = None,
    skip_bad: bool = False,
) -> SeriesTable:
    """Read and check a table of series; see :func:`read_series` for the arguments.

    Args:
        past: covariates that are not known ahead; all other columns of numbers beside ``target`` if unset.
        keep_all: keep columns that are empty or constant: a short table to forecast from may well have some.

    Raises:
        UserError: the file, a column or the time axis cannot be used; row and column are named.
    """
    sheet = read_sheet(path, encoding=encoding, skip_bad=skip_bad, keep=(time, series, *known, *(past or ())))
    frame = sheet.frame
    time = column_of(frame, time, "--time") if time is not None else _find_time(frame)
    if skip_bad:
        drop_bad_times(sheet, time)
        frame = sheet.frame
    times = read_times(frame[time], time)
    series = column_of(frame, series, "--series") if series is not None else _find_series(sheet, time, times)
    targets = [target] if isinstance(target, str) else list(target or ())
    for name in targets:
        column_of(frame, name, "--target")
    for name in (*known, *(past or ())):
        column_of(frame, name, "--known")
    layout, notes = _layout(frame, targets, list(known), {time, series})
    if past is not None:
        layout, notes = ColumnRoles(layout.targets, tuple(past), layout.known), []
    if skip_bad:
        drop_bad_cells(sheet, layout.columns, series)
        kept = frame.index.isin(sheet.frame.index)
        frame, times = sheet.frame, times[kept]
    notes = [*sheet.notes, *notes]
    values = np.stack([numbers(frame, name) for name in layout.columns], axis=1)
    groups = {"": np.arange(len(frame))} if series is None else groups_of(sheet, series)
    frequency = common_frequency(times, groups, time)
    if not keep_all:
        layout, values, more = _without_useless(layout, values, (frame.index[0], frame.index[-1]))
        notes += more
    built, gaps = [], 0
    for name, rows in groups.items():
        axis, cells = on_regular_axis(times[rows], values[rows], frequency)
        gaps += len(axis) - len(rows)
        built.append(Series(name, axis, cells))
    if gaps:
        notes.append(f"{gaps} of {gaps + len(frame)} rows are missing; they count as missing values.")
    missing = int(np.isnan(values[:, : len(layout.targets)]).sum())
    if missing:
        notes.append(f"{missing} values to forecast are missing; nothing is learned from them and nothing judged.")
    return SeriesTable(str(path), tuple(built), layout, frequency, time, series, tuple(notes))


#: Bytes and rows that are looked at to tell whether a table holds series.
_LOOKED_AT, _MOST_ROWS = 1 << 18, 200
#: Letters that the name of a series has on average at most; longer ones are texts to read.
_LONGEST_NAME = 40


def looks_like_series(path: Path) -> str | None:
    """``a table with times in column 'date'``, or none if the file is no table with times and numbers."""
    if not path.is_file() or path.suffix.lower() not in READERS:
        return None
    try:
        if READERS[path.suffix.lower()] == "CSV":
            frame = sheet_of(Decoded(start_of(path, _LOOKED_AT)), path, skip_bad=True).frame
        else:
            frame = read_sheet(path).frame
        frame = frame.head(_MOST_ROWS)
        time = _find_time(frame)
        read_times(frame[time], time)
    except Exception:  # whatever it is, it is not this
        return None
    others = [name for name in frame.columns if name != time]
    texts = [frame[name].dropna().astype(str).str.len().mean() for name in others if not is_number(frame[name])]
    if any(length > _LONGEST_NAME for length in texts):
        return None
    return f"a table with times in column {time!r}" if any(is_number(frame[name]) for name in others) else None


def column_of(frame: pd.DataFrame, name: str, option: str) -> str:
    """The name of a column that was asked for by an option; raises a ``UserError`` if there is none."""
    if name not in frame.columns:
        raise UnknownNameError(f"column (asked for by {option})", name, list(frame.columns))
    return name


def _find_time(frame: pd.DataFrame) -> str:
    by_name = [name for name in frame.columns if name.lower() in TIME_NAMES]
    dated = [name for name in frame.columns if frame[name].dtype.kind == "M"]
    if by_name or dated:
        return str((dated or by_name)[0])
    import pandas as pd

    for name in frame.columns:
        if (
            not is_number(frame[name])
            and pd.to_datetime(frame[name].head(20), errors="coerce", format="mixed").notna().mean() > 0.5
        ):
            return str(name)
    raise UserError(
        f"No column of times was found among {', '.join(map(repr, frame.columns[:8]))}; name it with --time."
    )


def _find_series(sheet: Sheet, time: str, times: NDArray[Any]) -> str | None:
    """The column that tells the rows of one time apart, if times repeat."""
    if len(np.unique(times)) == len(times):
        return None
    import pandas as pd

    frame = sheet.frame
    others = [name for name in frame.columns if name != time]
    named = [name for name in others if name.lower() in SERIES_NAMES]
    texts = [name for name in others if not is_number(frame[name]) or _has_codes(sheet.text(name))]
    for name in (*named, *texts):
        if not pd.DataFrame({"name": sheet.text(name), "time": times}).duplicated().any():
            return str(name)
    if len(named) == 1:  # its rows repeat times as well: the check of the axis names the row
        return str(named[0])
    return None


def _has_codes(cells: NDArray[Any]) -> bool:
    """Whether there are whole numbers with leading zeros, which are names."""
    return any(cell and cell[0] == "0" and len(cell) > 1 and cell.isdigit() for cell in cells[:_MOST_ROWS])


def is_number(column: pd.Series[Any]) -> bool:
    """Whether a column was read as numbers."""
    return column.dtype.kind in "iufb"


def _layout(
    frame: pd.DataFrame, targets: list[str], known: list[str], taken: set[str | None]
) -> tuple[ColumnRoles, list[str]]:
    """Targets as asked for; columns of numbers that are neither targets nor known ahead are covariates of the past."""
    both = [name for name in targets if name in known or name in taken]
    if both:
        raise UserError(f"Column {both[0]!r} cannot be forecast and be given at once; take it out of one option.")
    others = [name for name in frame.columns if name not in taken and name not in known and name not in targets]
    numbers = [name for name in others if is_number(frame[name]) or mostly_numbers(frame[name])]
    left_out = [name for name in others if name not in numbers]
    notes = []
    if left_out:
        notes.append(f"Columns that hold no numbers are not used: {', '.join(map(str, left_out))}.")
    if targets:
        return ColumnRoles(tuple(targets), tuple(numbers), tuple(known)), notes
    if not numbers:
        raise UserError("There is no column of numbers to forecast; name one with --target.")
    return ColumnRoles(tuple(numbers), (), tuple(known)), notes


def mostly_numbers(column: pd.Series[Any]) -> bool:
    """Whether most cells that hold anything hold a number: the others are mistakes that are to be named."""
    import pandas as pd

    given = column.notna()
    return not given.any() or bool(pd.to_numeric(column[given], errors="coerce").notna().mean() > 0.5)


def numbers(frame: pd.DataFrame, name: str) -> NDArray[np.float64]:
    """The numbers of a column; empty cells are missing values.

    Raises:
        UserError: names the first cell that holds something else, or an infinite number.
    """
    column = frame[name]
    numbers, wrong = _numbers(column)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise UserError(
            f"Column {name!r} has {str(column.iloc[row])!r} in row {frame.index[row]}, which is no number; correct it, "
            "leave the cell empty if the value is missing, or leave such rows out with --skip-bad."
        )
    if np.isinf(numbers).any():
        row = int(np.flatnonzero(np.isinf(numbers))[0])
        raise UserError(f"Column {name!r} is infinite in row {frame.index[row]}; correct it or leave it empty.")
    return numbers


def _numbers(column: pd.Series[Any]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The numbers of a column, and where it holds something else."""
    import pandas as pd

    numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    empty = column.isna() | (column.astype(str).str.strip() == "")
    return numbers, np.isnan(numbers) & ~empty.to_numpy()


def drop_bad_times(sheet: Sheet, time: str) -> None:
    """Leave out the rows of a sheet whose time is missing or cannot be read."""
    import pandas as pd

    column = sheet.frame[time]
    wrong = column.isna().to_numpy()
    if column.dtype.kind == "O" or isinstance(column.dtype, pd.StringDtype):
        wrong |= pd.to_datetime(column, errors="coerce", utc=True, format="mixed").isna().to_numpy()
    if wrong.any() and not wrong.all():
        told = [f"the time {str(cell)!r} cannot be read" for cell in column[wrong]]
        sheet.drop(wrong, told)


def drop_bad_cells(sheet: Sheet, columns: Sequence[str], series: str | None) -> None:
    """Leave out the rows of a sheet that hold no number where one is expected, or do not say whose they are."""
    frame = sheet.frame
    reasons: dict[int, str] = {}
    for name in columns:
        found, wrong = _numbers(frame[name])
        for row in np.flatnonzero(wrong | np.isinf(found)):
            reasons.setdefault(int(row), f"column {name!r} has {str(frame[name].iloc[row])!r}, which is no number")
    if series is not None:
        for row in np.flatnonzero(sheet.text(series) == None):  # noqa: E711 - elementwise
            reasons.setdefault(int(row), f"column {series!r} is empty")
    wrong = np.zeros(len(frame), bool)
    wrong[list(reasons)] = True
    if not wrong.all():
        sheet.drop(wrong, [reasons[row] for row in sorted(reasons)])


def groups_of(sheet: Sheet, column: str) -> dict[str, NDArray[np.int64]]:
    """The rows of each series, series in the order of their names, which are texts as they are written.

    Raises:
        UserError: a row does not say which series it is of.
    """
    names = sheet.text(column)
    empty = np.flatnonzero(names == None)  # noqa: E711 - elementwise
    if len(empty):
        row = sheet.frame.index[empty[0]]
        raise UserError(f"Column {column!r} does not say which series row {row} is of; fill it in.")
    names = names.astype(str)
    order = np.argsort(names, kind="stable")
    unique, begins = np.unique(names[order], return_index=True)
    return {str(name): rows for name, rows in zip(unique, np.split(order, begins[1:]), strict=True)}


def _without_useless(
    layout: ColumnRoles, values: NDArray[np.float64], rows: tuple[int, int]
) -> tuple[ColumnRoles, NDArray[np.float64], list[str]]:
    """Refuse targets that are empty or constant; leave out covariates that are.

    Raises:
        UserError: names the column, and the rows and value where it is constant.
    """
    kept, notes = [], []
    for index, name in enumerate(layout.columns):
        given = values[np.isfinite(values[:, index]), index]
        if len(given) and np.ptp(given) > 0:
            kept.append(name)
        elif name in layout.targets and not len(given):
            raise UserError(
                f"Column {name!r} is empty in all rows {rows[0]} to {rows[1]}, so there is nothing to forecast; "
                "fill it in, or choose other columns with --target."
            )
        elif name in layout.targets:
            raise UserError(
                f"Column {name!r} is {given[0]:g} in all rows {rows[0]} to {rows[1]}: a constant needs no forecast; "
                "choose other columns with --target."
            )
        else:
            notes.append(
                f"Column {name!r} says nothing (it is {'constant' if len(given) else 'empty'}) and is not used."
            )
    left = ColumnRoles(
        *(tuple(name for name in part if name in kept) for part in (layout.targets, layout.past, layout.known))
    )
    return left, values[:, [layout.columns.index(name) for name in left.columns]], notes
