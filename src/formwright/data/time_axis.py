"""Columns of times: read, checked for order and for one frequency, and laid on a regular axis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from formwright.data.calendar import (
    CALENDAR_STEPS,
    Frequency,
    calendar_frequency,
    clock_frequency,
    counted_frequency,
)
from formwright.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

Times = NDArray[Any]
Rows = NDArray[np.int64]
#: The number by which people call the first row of values: 2, after the line of names.
FIRST_ROW = 2


def read_times(column: pd.Series[Any], name: str) -> Times:
    """The times of a column, ``datetime64[ns]`` in UTC, or whole numbers that count.

    Raises:
        UserError: names the first row whose time is missing or cannot be read.
    """
    import pandas as pd

    missing = column.isna().to_numpy()
    if missing.any():
        row = int(np.flatnonzero(missing)[0]) + FIRST_ROW
        raise UserError(f"Column {name!r} has no time in row {row}; fill it in, or leave the row out.")
    if column.dtype.kind in "iu":
        return column.to_numpy(np.int64)
    if column.dtype.kind == "f" and bool((column == column.round()).all()):
        return column.to_numpy(np.float64).astype(np.int64)
    if isinstance(column.dtype, pd.PeriodDtype):
        column = column.dt.to_timestamp()
    times = pd.to_datetime(column, errors="coerce", utc=True)
    if times.isna().any():  # dates alone beside dates with times, for example
        times = pd.to_datetime(column, errors="coerce", utc=True, format="mixed")
    wrong = times.isna().to_numpy()
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise UserError(
            f"Column {name!r} has {str(column.iloc[row])!r} in row {row + FIRST_ROW}, which cannot be read as a date "
            "or time; write it as 2024-05-31 18:00, or name another column with --time."
        )
    return times.dt.tz_localize(None).to_numpy("datetime64[ns]")


def common_frequency(times: Times, groups: Mapping[str, Rows], name: str) -> Frequency:
    """The one step of all series: their most common difference of neighbours, of which all others are multiples.

    Args:
        times: of all rows.
        groups: the rows of each series, as they stand.
        name: the column of times.

    Raises:
        UserError: times repeat, run backwards or do not lie on one regular axis; the row is named.
    """
    found: list[tuple[Rows, NDArray[np.int64]]] = []
    for series, rows in groups.items():
        steps = np.diff(times[rows]).astype(np.int64)
        _check_order(times, rows, steps, name, series)
        found.append((rows, steps))
    steps = np.concatenate([step for _, step in found])
    if not len(steps):
        raise UserError(
            f"Column {name!r} has one time a series; at least two are needed to know the step between them."
        )
    values, counts = np.unique(steps, return_counts=True)
    common = int(values[counts.argmax()])
    if all((values % common) == 0) and not _is_calendar(times, values):
        for rows, differences in found:
            other = _other_frequency(differences, common)
            if other is not None:
                raise _two_frequencies(times, rows, differences, other, common, name)
        return clock_frequency(common) if times.dtype.kind == "M" else counted_frequency(common)
    if times.dtype.kind == "M":
        for offset in CALENDAR_STEPS:
            if all(_lies_on(times[rows], offset) for rows, _ in found):
                return calendar_frequency(offset)
    for rows, differences in found:
        odd = np.flatnonzero(differences % common)
        if len(odd):
            raise _two_frequencies(times, rows, differences, int(odd[0]), common, name)
    raise UserError(f"Column {name!r} has no one frequency; bring all rows to one, for example with pandas' resample.")


#: So many equal steps one after the other, longer than the common one, are no gaps but another frequency.
_RUN = 24


def _other_frequency(differences: NDArray[np.int64], common: int) -> int | None:
    """Where the first run of equal steps begins that are multiples of the common step."""
    changes = np.flatnonzero(np.diff(differences)) + 1
    starts = np.concatenate([[0], changes])
    lengths = np.diff(np.concatenate([starts, [len(differences)]]))
    runs = starts[(lengths >= _RUN) & (differences[starts] > common)] if len(differences) else starts[:0]
    return int(runs[0]) if len(runs) else None


def _two_frequencies(
    times: Times, rows: Rows, differences: NDArray[np.int64], place: int, common: int, name: str
) -> UserError:
    return UserError(
        f"Column {name!r} goes on by {_spoken(int(differences[place]), times)} in row "
        f"{int(rows[place + 1]) + FIRST_ROW} ({as_text(times[rows[place + 1]])}), where most rows are "
        f"{_spoken(common, times)} apart; bring all rows to one frequency, for example with pandas' resample."
    )


def _check_order(times: Times, rows: Rows, steps: NDArray[np.int64], name: str, series: str) -> None:
    of = f" of series {series!r}" if series else ""
    wrong = np.flatnonzero(steps <= 0)
    if not len(wrong):
        return
    place = int(wrong[0])
    row, time = int(rows[place + 1]) + FIRST_ROW, as_text(times[rows[place + 1]])
    before = int(rows[place]) + FIRST_ROW
    ordered = np.sort(times[rows])
    twice = ordered[1:][np.diff(ordered).astype(np.int64) == 0]
    if len(twice):
        first, second = (int(value) + FIRST_ROW for value in rows[np.flatnonzero(times[rows] == twice[0])[:2]])
        raise UserError(
            f"Column {name!r} has {as_text(twice[0])} twice{of}, in rows {first} and {second}; remove one, or name the "
            "column that tells several series apart with --series."
        )
    raise UserError(
        f"Column {name!r} is not in order{of}: row {row} ({time}) is earlier than row {before} "
        f"({as_text(times[rows[place]])}); sort the rows by time."
    )


_DAY = 86_400_000_000_000


def _is_calendar(times: Times, steps: NDArray[np.int64]) -> bool:
    """Whether days only come in the lengths of months, quarters and years, or leave out weekends."""
    if times.dtype.kind != "M" or bool((steps % _DAY).any()):
        return False
    days = set((steps // _DAY).tolist())
    whole_months = days <= {28, 29, 30, 31} or days <= {90, 91, 92} or days <= {365, 366}
    if days == {1, 3}:
        weekday = (times.astype("datetime64[D]").astype(np.int64) + 3) % 7
        return bool((weekday < 5).all())
    return whole_months and not days <= {28}


def _lies_on(times: Times, offset: str) -> bool:
    import pandas as pd

    axis = pd.date_range(times[0], times[-1], freq=offset).to_numpy("datetime64[ns]")
    return len(axis) > 1 and bool(np.isin(times, axis).all())


def on_regular_axis(
    times: Times, values: NDArray[np.float64], frequency: Frequency
) -> tuple[Times, NDArray[np.float64]]:
    """All times from the first to the last at the frequency, and the values there, missing where no row was."""
    if frequency.step is not None:
        places = (times - times[0]).astype(np.int64) // frequency.step
        axis = frequency.range(times[0], int(places[-1]) + 1)
    else:
        import pandas as pd

        axis = pd.date_range(times[0], times[-1], freq=frequency.offset).to_numpy("datetime64[ns]")
        places = np.searchsorted(axis, times)
    cells = np.full((len(axis), values.shape[1]), np.nan)
    cells[places] = values
    return axis, cells


def as_text(time: Any) -> str:
    """A time as short as it can be told."""
    if not isinstance(time, np.datetime64):
        return str(time)
    return str(time.astype("datetime64[s]")).replace("T", " ").removesuffix(" 00:00:00").removesuffix(":00")


def _spoken(step: int, times: Times) -> str:
    return clock_frequency(step).name if times.dtype.kind == "M" else str(step)
