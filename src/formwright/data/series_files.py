"""Tables of series as users have them: CSV, Parquet or Feather, wide or long, checked row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from formwright.data.calendar import Frequency
from formwright.data.encodings import Decoded, start_of
from formwright.data.series import ColumnRoles, Series, SeriesData, arrange
from formwright.data.series_checks import told_left_out, useless_series, without_useless
from formwright.data.sheets import READERS, Sheet, read_sheet, sheet_of
from formwright.data.time_axis import Wanted, on_regular_axis, read_axis
from formwright.data.times.formats import ISO, TimeFormat
from formwright.data.times.readings import readings
from formwright.data.times.zones import check_zone
from formwright.errors import UnknownNameError, UserError

if TYPE_CHECKING:
    import pandas as pd

#: Names under which people keep the time and the name of a series.
TIME_NAMES = (
    *("time", "date", "datetime", "timestamp", "ds", "period", "datum", "fecha", "month", "day"),
    *("yyyymm", "yyyymmdd", "year", "quarter", "week"),
)
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
        time_format: how the column of times is written.
        left_out: series that cannot be used, and why.
    """

    source: str
    series: tuple[Series, ...]
    layout: ColumnRoles
    frequency: Frequency
    time_column: str
    series_column: str | None
    notes: tuple[str, ...]
    time_format: TimeFormat = ISO
    left_out: Mapping[str, str] = field(default_factory=dict)


def read_series(
    path: str | Path,
    *,
    horizon: int | None = None,
    target: str | Sequence[str] | None = None,
    length: int | None = None,
    time: str | None = None,
    series: str | None = None,
    known: Sequence[str] = (),
    time_format: str | None = None,
    time_zone: str | None = None,
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
        time_format: how times are written, where that may be read in two ways: ``day-first``, ``month-first``,
            ``year-first``, a pattern such as ``%d/%m/%Y``, or the unit of numbers since 1970 (``s``, ``ms``, ``us``).
        time_zone: whose clocks times are of that do not say so; in it, days have 23 to 25 hours.
        encoding: of a CSV file that is neither marked nor UTF-8.
        skip_bad: leave out rows that cannot be used, and count them, instead of refusing their series.

    Raises:
        UserError: the file, a column or the time axis cannot be used; row and column are named.
    """
    wanted = Wanted(order=time_format or "", zone=check_zone(time_zone) if time_zone else "")
    table = read_table(
        path,
        target=target,
        time=time,
        series=series,
        known=known,
        wanted=wanted,
        encoding=encoding,
        skip_bad=skip_bad,
    )
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
    wanted: Wanted | None = None,
    encoding: str | None = None,
    skip_bad: bool = False,
) -> SeriesTable:
    """Read and check a table of series; see :func:`read_series` for the arguments.

    A series that cannot be used is left out and named, if there are others.

    Args:
        past: covariates that are not known ahead; all other columns of numbers beside ``target`` if unset.
        keep_all: keep columns that are empty or constant: a short table to forecast from may well have some.
        wanted: what is known of its times.

    Raises:
        UserError: the file, a column or the time axis cannot be used; row and column are named.
    """
    sheet = read_sheet(path, encoding=encoding, skip_bad=skip_bad, keep=(time, series, *known, *(past or ())))
    frame = sheet.frame
    time = column_of(frame, time, "--time") if time is not None else _find_time(frame)
    series = column_of(frame, series, "--series") if series is not None else _find_series(sheet, time)
    targets = [target] if isinstance(target, str) else list(target or ())
    for name in targets:
        column_of(frame, name, "--target")
    for name in (*known, *(past or ())):
        column_of(frame, name, "--known")
    layout, notes = _layout(frame, targets, list(known), {time, series})
    if past is not None:
        layout, notes = ColumnRoles(layout.targets, tuple(past), layout.known), []
    if skip_bad:
        drop_bad_times(sheet, time, wanted.order if wanted else "")
        drop_bad_cells(sheet, layout.columns, series)
        frame = sheet.frame
    notes = [*sheet.notes, *notes]
    groups = {"": np.arange(len(frame))} if series is None else groups_of(sheet, series)
    axis = read_axis(frame[time], time, groups, wanted)
    values, faults = cells_of(frame, layout.columns)
    left_out = dict(axis.bad)
    for name, rows in groups.items():
        odd = [faults[row] for row in rows.tolist() if row in faults] if faults else []
        if odd and name not in left_out:
            left_out[name] = odd[0]
    good = {name: rows for name, rows in axis.groups.items() if name not in left_out}
    if not good:
        raise UserError(next(iter(left_out.values())))
    notes += axis.notes
    if not keep_all:
        if len(good) > 1:
            left_out |= useless_series(good, values[:, : len(layout.targets)], layout.targets)
            good = {name: rows for name, rows in good.items() if name not in left_out} or good
        layout, values, more = without_useless(
            layout, values, np.sort(np.concatenate(list(good.values()))), (frame.index[0], frame.index[-1])
        )
        notes += more
    built, gaps, missing, count = [], 0, 0, 0
    for name, rows in good.items():
        times, cells = on_regular_axis(axis.times[rows], values[rows], axis.frequency)
        gaps += len(times) - len(rows)
        count += len(rows)
        missing += int(np.isnan(values[rows, : len(layout.targets)]).sum())
        built.append(Series(name, times, cells))
    if gaps:
        notes.append(f"{gaps} of {gaps + count} rows are missing; they count as missing values.")
    if missing:
        notes.append(f"{missing} values to forecast are missing; nothing is learned from them and nothing judged.")
    notes += told_left_out(left_out)
    return SeriesTable(
        str(path),
        tuple(built),
        layout,
        axis.frequency,
        time,
        series,
        tuple(notes),
        axis.format,
        left_out,
    )


#: Numbers at most, so that their squares can be added up.
_LARGEST = 1e150
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
        readings(frame[time], time)
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
    lower = {name.lower(): name for name in reversed(frame.columns)}
    by_name = [lower[name] for name in TIME_NAMES if name in lower]
    dated = [name for name in frame.columns if frame[name].dtype.kind == "M"]
    if by_name or dated:
        return str((dated or by_name)[0])
    for name in frame.columns:
        if not is_number(frame[name]) and _holds_dates(frame[name].head(20), name):
            return str(name)
    raise UserError(
        f"No column of times was found among {', '.join(map(repr, frame.columns[:8]))}; name it with --time."
    )


def _holds_dates(column: pd.Series[Any], name: str) -> bool:
    """Whether texts are dates, and no codes of digits."""
    try:
        ways = readings(column, name)
    except UserError:
        return False
    faults = min(len(way.faults or {}) for way in ways)
    return faults < len(column) / 2 and not column.astype(str).str.strip().str.isdigit().any()


def _find_series(sheet: Sheet, time: str) -> str | None:
    """The column that tells the rows of one time apart, if times repeat."""
    frame = sheet.frame
    if not frame[time].duplicated().any():
        return None
    import pandas as pd

    others = [name for name in frame.columns if name != time]
    named = [name for name in others if name.lower() in SERIES_NAMES]
    texts = [name for name in others if not is_number(frame[name]) or _has_codes(sheet.text(name))]
    repeated = {
        name: int(pd.DataFrame({"name": sheet.text(name), "time": frame[time].to_numpy()}).duplicated().sum())
        for name in (*named, *texts)
    }
    if not repeated:
        return None
    best = min(repeated, key=lambda name: repeated[name])
    # What few rows still repeat are mistakes in a few series; the check of the axis names them.
    return str(best) if len(named) == 1 or repeated[best] < frame[time].duplicated().sum() / 2 else None


def _has_codes(cells: NDArray[Any]) -> bool:
    """Whether there are whole numbers with leading zeros, which are names."""
    return any(cell and cell[0] == "0" and len(cell) > 1 and cell.isdigit() for cell in cells[:_MOST_ROWS])


def is_number(column: pd.Series[Any]) -> bool:
    """Whether a column was read as numbers."""
    return column.dtype.kind in "iufb"


def number_with_unit(frame: pd.DataFrame) -> str:
    """The first cell of columns without numbers that begins like one, in brackets; empty if there is none."""
    for name in frame.columns:
        cells = frame[name].dropna().astype(str)
        begun = cells[cells.str.fullmatch(r"\s*(?:[$€£][\s\d.,]+|[-+]?\d[\d.,\s]*[^\d.,:/\s-]\D*)")]
        if len(begun):
            return f" ({name!r} has {begun.iloc[0]!r} in row {begun.index[0]}: write numbers without units)"
    return ""


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
        example = number_with_unit(frame[others])
        raise UserError(f"There is no column of numbers to forecast{example}; name one with --target.")
    return ColumnRoles(tuple(numbers), (), tuple(known)), notes


def mostly_numbers(column: pd.Series[Any]) -> bool:
    """Whether most cells that hold anything hold a number: the others are mistakes that are to be named."""
    import pandas as pd

    given = column.notna()
    return not given.any() or bool(pd.to_numeric(column[given], errors="coerce").notna().mean() > 0.5)


def cells_of(frame: pd.DataFrame, names: Sequence[str]) -> tuple[NDArray[np.float64], dict[int, str]]:
    """The numbers of columns, and by row why a cell is none."""
    columns, faults = [], {}
    for name in names:
        values, wrong = _numbers(frame, name)
        columns.append(values)
        faults.update({row: why for row, why in wrong.items() if row not in faults})
    return np.stack(columns, axis=1), faults


def _numbers(frame: pd.DataFrame, name: str) -> tuple[NDArray[np.float64], dict[int, str]]:
    import pandas as pd

    column = frame[name]
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    texts = column.isna() | (column.astype(str).str.strip() == "")
    wrong = np.isnan(numbers) & ~texts.to_numpy()
    faults = {
        row: f"Column {name!r} has {str(column.iloc[row])!r} in row {frame.index[row]}, which is no number; "
        "correct it, or leave the cell empty if the value is missing."
        for row in np.flatnonzero(wrong).tolist()
    }
    for row in np.flatnonzero(np.abs(numbers) > _LARGEST).tolist():
        how = "infinite" if np.isinf(numbers[row]) else "too large to be squared"
        faults[row] = f"Column {name!r} is {how} in row {frame.index[row]}; correct it or leave it empty."
    return numbers, faults


def drop_bad_times(sheet: Sheet, time: str, order: str = "") -> None:
    """Leave out the rows of a sheet whose time is missing or cannot be read; ``order`` as for :func:`readings`."""
    column = sheet.frame[time]
    rows = min((list(way.faults or {}) for way in readings(column, time, order)), key=len)
    wrong = np.zeros(len(column), bool)
    wrong[rows] = True
    sheet.drop(wrong, [f"its time {str(cell)!r} cannot be read" for cell in column[wrong]])


def drop_bad_cells(sheet: Sheet, columns: Sequence[str], series: str | None) -> None:
    """Leave out the rows of a sheet that hold no number where one is expected, or do not say whose they are."""
    frame = sheet.frame
    reasons: dict[int, str] = {}
    for name in columns:
        for row in _numbers(frame, name)[1]:
            reasons.setdefault(row, f"column {name!r} has {str(frame[name].iloc[row])!r}, which is no number to use")
    if series is not None:
        for row in np.flatnonzero(sheet.text(series) == None).tolist():  # noqa: E711 - elementwise
            reasons.setdefault(row, f"column {series!r} is empty")
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
