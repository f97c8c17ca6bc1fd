"""Numbers as times: years, months and days written as one number, time since 1970, or rows that are only counted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formwright.data.times.formats import EPOCH_NAMES, EPOCHS, SHEETS_BEGIN, Reading, TimeFormat
from formwright.data.times.texts import dates_of

Times = NDArray[Any]
#: Parts of numbers by their digits from the left, and how a person says it.
_WRITTEN: Mapping[tuple[tuple[str, int], ...], str] = {
    (("Y", 4),): "years",
    (("Y", 4), ("m", 2)): "years and months (yyyymm)",
    (("Y", 4), ("q", 1)): "years and quarters (yyyyq)",
    (("Y", 4), ("m", 2), ("d", 2)): "dates (yyyymmdd)",
    (("d", 2), ("m", 2), ("Y", 4)): "dates (ddmmyyyy)",
    (("m", 2), ("d", 2), ("Y", 4)): "dates (mmddyyyy)",
    (("y", 2), ("m", 2), ("d", 2)): "dates (yymmdd)",
    (("Y", 4), ("j", 3)): "years and days of the year (yyyyddd)",
    (("G", 4), ("V", 2)): "years and weeks (yyyyww)",
    (("Y", 4), ("m", 2), ("d", 2), ("H", 2)): "dates and hours (yyyymmddhh)",
    (("Y", 4), ("m", 2), ("d", 2), ("H", 2), ("M", 2)): "dates and minutes (yyyymmddhhmm)",
    (("Y", 4), ("m", 2), ("d", 2), ("H", 2), ("M", 2), ("S", 2)): "dates and seconds (yyyymmddhhmmss)",
}
#: Years that are likely as the years of numbers, and as those of time since 1970.
_YEARS, _EPOCH_YEARS = (1700, 2199), (1973, 2100)
#: Decimals that numbers which count have at most, and how far they may be from them in units of the last one.
_DECIMALS, _CLOSE = 9, 1e-3
#: How far a twelfth of a year may be from a month, in months; days of spreadsheets from 1954 to 2119.
_TWELFTH, _SHEET_DAYS = 0.02, (20_000, 80_000)
#: Decimals of seconds since 1970 that a double holds.
_DOUBLE = 6


def readings_of_numbers(values: NDArray[np.float64], exact: NDArray[np.int64] | None) -> Iterator[Reading]:
    """The ways in which the numbers of a column, ``(rows,)``, can be read as times, most usual first.

    Args:
        values: not a number where there is none.
        exact: the same as whole numbers, where they are such.
    """
    if exact is not None:
        for parts, words in _WRITTEN.items():
            times = _written(exact, parts)
            if times is not None:
                pattern = "".join(f"%{letter}" for letter, _ in parts)
                pattern = re.sub("^%(?=[dm])", "%-", pattern)  # numbers begin with no nought
                yield Reading(times, TimeFormat(pattern), f"as {words}", faults={}, usual=True)
    for unit, size in EPOCHS.items():
        since = exact * size if exact is not None and _in_epoch(exact.astype(np.float64) * size) else None
        if since is None and exact is None and unit != "ns" and _in_epoch(values * size):
            since = np.round(values * size / 1000).astype(np.int64) * 1000  # a double holds no nanoseconds of today
        if since is not None:
            yield Reading(
                since.astype("datetime64[ns]"),
                TimeFormat(unit=unit, zone="UTC", decimals=0 if exact is not None else _decimals(values, _DOUBLE) or 0),
                f"as {EPOCH_NAMES[unit]} since 1970, in UTC",
                np.zeros(len(since), np.int64),
                {},
                usual=True,
            )
    if exact is None and _within(values, _YEARS):
        yield from _decimal_years(values)
    decimals = 0 if exact is not None else _decimals(values, _DECIMALS) or _DECIMALS
    scaled = values * 10**decimals
    if exact is not None:
        yield Reading(exact, TimeFormat(), faults={})
    elif np.abs(scaled).max() < 2**62:
        yield Reading(scaled.round().astype(np.int64), TimeFormat(decimals=decimals), faults={})
    if _within(values, _SHEET_DAYS):  # but for what is counted one by one, which may be anything
        seconds = np.round(values * 86_400).astype(np.int64)
        times = np.datetime64(SHEETS_BEGIN, "ns") + (seconds * 1_000_000_000).astype("timedelta64[ns]")
        yield Reading(
            times, TimeFormat(unit="excel", decimals=decimals), "as days of a spreadsheet, from 1900 on", faults={}
        )


def _decimal_years(values: NDArray[np.float64]) -> Iterator[Reading]:
    """Months as twelfths of a year, as R writes them."""
    months = np.round(values * 12).astype(np.int64)
    if np.abs(values * 12 - months).max() < _TWELFTH and len(np.unique(months)) > 1:
        times = (months - 1970 * 12).astype("datetime64[M]").astype("datetime64[ns]")
        layout = TimeFormat(unit="year", decimals=_decimals(values, _DECIMALS) or _DECIMALS)
        yield Reading(times, layout, "as years with twelfths for months", faults={}, usual=True)


def _within(values: NDArray[np.float64], limits: tuple[float, float]) -> bool:
    return bool(((values >= limits[0]) & (values <= limits[1])).all())


def _decimals(values: NDArray[np.float64], most: int) -> int | None:
    """How many decimals numbers have, none if more than ``most``."""
    for decimals in range(1, most + 1):
        scaled = values * 10**decimals
        if np.abs(scaled).max() < 2**53 and np.abs(scaled - scaled.round()).max() < _CLOSE:
            return decimals
    return None


def _in_epoch(nanoseconds: NDArray[np.float64]) -> bool:
    first, last = ((year - 1970) * 365.2425 * 86_400e9 for year in _EPOCH_YEARS)
    return bool(((nanoseconds >= first) & (nanoseconds <= last)).all())


def _written(numbers: NDArray[np.int64], parts: tuple[tuple[str, int], ...]) -> Times | None:
    """Times whose digits are such parts, or none if a number has not as many, or is no such date."""
    digits = sum(width for _, width in parts)
    least = 10 ** (digits - 1) if parts[0][0] in "YG" else 10 ** (digits - parts[0][1])
    if (numbers < least).any() or (numbers >= 10**digits).any():
        return None
    values, rest = {}, numbers
    for letter, width in reversed(parts):
        values[letter], rest = rest % 10**width, rest // 10**width
    if "y" in values:
        values["Y"] = np.where(values["y"] < 69, 2000, 1900) + values["y"]
    year = values.get("Y", values.get("G", rest))
    if (year < _YEARS[0]).any() or (year > _YEARS[1]).any():
        return None
    dates, bad = dates_of(year, values)
    hours, minutes, seconds = (values.get(letter, np.zeros_like(numbers)) for letter in "HMS")
    if bad.any() or (hours > 23).any() or (minutes > 59).any() or (seconds > 59).any():
        return None
    return dates.astype("datetime64[ns]") + (((hours * 60 + minutes) * 60 + seconds) * 1_000_000_000).astype(
        "timedelta64[ns]"
    )
