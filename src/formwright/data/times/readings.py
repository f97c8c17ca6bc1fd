"""The ways in which a column can be read as times: by its type, its numbers or its texts."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from formwright.data.times.formats import EPOCH_NAMES, Reading, TimeFormat
from formwright.data.times.numbers import readings_of_numbers
from formwright.data.times.texts import readings_of_texts
from formwright.data.times.zones import zone_of
from formwright.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

_NUMBER = re.compile(r"-?\d+(\.\d*)?(e[+-]?\d+)?", re.IGNORECASE)
_ORDERS = {"day-first": ("dmY", "dmy"), "month-first": ("mdY", "mdy"), "year-first": ("Ymd", "ymd", "Ydm")}


def readings(column: pd.Series[Any], name: str, order: str = "", like: TimeFormat | None = None) -> list[Reading]:
    """The ways in which a column can be read, most usual first; each with why rows cannot be read in it.

    Args:
        column: as it was read, indexed by the numbers of its rows.
        name: what it is called.
        order: ``day-first``, ``month-first``, ``year-first``, a pattern such as ``%d/%m/%Y``, or a unit of numbers;
            only ways that are such.
        like: of several ways those that are written like this, if there are any.

    Raises:
        UserError: there is no such way; the first row that cannot be read is named.
    """
    missing = column.isna().to_numpy()
    texts = None
    if column.dtype.kind not in "Mmiuf" and not hasattr(column.dtype, "freq"):
        texts = column.astype(str).str.strip().to_numpy(object)
        missing = missing | (texts == "")
    given = np.flatnonzero(~missing)
    found = [
        _whole(way, given, len(column))
        for way in _of_given(column.iloc[given], None if texts is None else texts[given])
    ]
    empty = {
        row: f"Column {name!r} has no time in row {column.index[row]}; fill it in, or leave the row out."
        for row in np.flatnonzero(missing).tolist()
    }
    if not found:
        row = int(given[0]) if len(given) else 0
        raise UserError(empty.get(row) or _fault(name, column, row, "which cannot be read as a date or time"))
    fewest = min(len(way.faults or {}) for way in found)
    found = [way for way in found if len(way.faults or {}) == fewest]
    if any(way.format.directives == "Ymd" for way in found):  # nobody writes the day between year and month then
        found = [way for way in found if way.format.directives != "Ydm"]
    found = [
        dataclasses.replace(
            way, faults={**{row: _fault(name, column, row, why) for row, why in (way.faults or {}).items()}, **empty}
        )
        for way in found
    ]
    if order:
        asked = [way for way in found if _is(way, order)]
        if not asked:
            first = int(given[0])
            raise UserError(
                f"Column {name!r} has {str(column.iloc[first])!r} in row {column.index[first]}, which is not "
                f"written as {order} (--time-format); name another format, or leave the option out."
            )
        return asked
    alike = [way for way in found if like and (way.format.directives, way.format.unit) == (like.directives, like.unit)]
    return alike or found


def _is(way: Reading, order: str) -> bool:
    plain = order.replace("_", "-").lower()
    if plain in _ORDERS:
        return way.format.directives in _ORDERS[plain]
    if plain in (way.format.unit, EPOCH_NAMES.get(way.format.unit)):
        return True
    return way.format.directives == TimeFormat(order).directives and "%" in order


def _fault(name: str, column: pd.Series[Any], row: int, why: str) -> str:
    return (
        f"Column {name!r} has {str(column.iloc[row])!r} in row {column.index[row]}, {why}; write it as 2024-05-31 "
        "18:00, or name another column with --time."
    )


def _whole(way: Reading, given: NDArray[np.int64], rows: int) -> Reading:
    """A reading of the rows ``given`` as one of all rows."""
    if len(given) == rows:
        return way
    times = np.zeros(rows, way.times.dtype)
    times[given] = way.times
    offsets = None
    if way.offsets is not None:
        offsets = np.zeros(rows, np.int64)
        offsets[given] = way.offsets
    faults = {int(given[row]): why for row, why in (way.faults or {}).items()}
    return dataclasses.replace(way, times=times, offsets=offsets, faults=faults)


def _of_given(column: pd.Series[Any], texts: NDArray[Any] | None) -> Iterator[Reading]:
    import pandas as pd

    if not len(column):
        return
    if isinstance(column.dtype, pd.PeriodDtype):
        column = column.dt.to_timestamp()
    if column.dtype.kind == "M":
        yield _dated(column)
    elif column.dtype.kind in "iu":
        yield from readings_of_numbers(column.to_numpy(np.float64), column.to_numpy(np.int64))
    elif column.dtype.kind == "f":
        yield from _of_doubles(column.to_numpy(np.float64))
    elif texts is not None:
        plain = np.array([_NUMBER.fullmatch(text) is not None for text in texts])
        if not plain.mean() > 0.5:
            yield from readings_of_texts(texts)
            return
        places = np.flatnonzero(plain)
        numbers = texts[places]
        whole = all(text.lstrip("-").isdigit() and len(text) < 19 for text in numbers)
        values = numbers.astype(np.float64)
        ways = readings_of_numbers(values, numbers.astype(np.int64)) if whole else _of_doubles(values)
        odd = {int(row): "which cannot be read as a date or time like the others" for row in np.flatnonzero(~plain)}
        padded = any(text.startswith("0") for text in numbers)
        for way in ways:
            one = _whole(way, places, len(texts))
            written = way.format.pattern.replace("%-", "%") if padded else way.format.pattern
            yield dataclasses.replace(
                one, format=dataclasses.replace(way.format, pattern=written), faults={**(one.faults or {}), **odd}
            )


def _of_doubles(values: NDArray[np.float64]) -> Iterator[Reading]:
    if not np.isfinite(values).all():
        return
    whole = bool((values == values.round()).all()) and np.abs(values).max() < 2**62
    yield from readings_of_numbers(values, values.astype(np.int64) if whole else None)


def _dated(column: pd.Series[Any]) -> Reading:
    """A column of dates by its type."""
    zone = getattr(column.dt, "tz", None)
    if zone is None:
        return Reading(column.to_numpy("datetime64[ns]"), TimeFormat(), faults={}, usual=True)
    walls = column.dt.tz_localize(None).to_numpy("datetime64[ns]")
    instants = column.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy("datetime64[ns]")
    offsets = ((walls - instants) // np.timedelta64(1, "m")).astype(np.int64)
    named = str(zone) if "/" in str(zone) or str(zone) == "UTC" else zone_of(instants, offsets) or "UTC"
    return Reading(walls, TimeFormat(zone=named), offsets=offsets, faults={}, usual=True)
