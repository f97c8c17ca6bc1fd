"""How a column writes its times, as data: saved with a model, so that forecasts are written alike."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formwright.data.times.words import MONTHS, WEEKDAYS
from formwright.data.times.zones import abbreviation, offset_text, offsets_of, to_utc

Times = NDArray[Any]
#: Nanoseconds of the units that count time since 1970.
EPOCHS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
EPOCH_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
#: What spreadsheets count days from.
SHEETS_BEGIN = "1899-12-30"
_DIRECTIVE = re.compile(r"%(-?:?\d?)([A-Za-z])")
ENGLISH = tuple(MONTHS["English"][0].split())


@dataclass(frozen=True)
class TimeFormat:
    """How times are written.

    Attributes:
        pattern: of dates, in the directives of ``strftime``: ``%d/%m/%Y %H:%M``. ``%-d`` is without leading zeros,
            ``%3f`` a fraction of three digits, ``%:z`` an offset with a colon, ``%Z`` the name of one, ``%q`` and
            ``%h`` a quarter and half of a year. Empty for ISO as short as can be, and for numbers that count.
        unit: of numbers: ``s``, ``ms``, ``us`` or ``ns`` since 1970, ``year`` with its months as twelfths,
            ``excel`` for the days of spreadsheets; empty otherwise.
        zone: whose clocks are written: a name such as ``Europe/Berlin``, or an offset; empty if none is known.
        months: the names of the twelve months, where they are written.
        decimals: of numbers.
    """

    pattern: str = ""
    unit: str = ""
    zone: str = ""
    months: tuple[str, ...] = ENGLISH
    decimals: int = 0

    @property
    def directives(self) -> str:
        """Day, month and year in their order: ``dmY``."""
        letters = "".join(letter for _, letter in _DIRECTIVE.findall(self.pattern))
        return "".join("m" if letter in "bB" else letter for letter in letters if letter in "YymbBdqhGVuj")

    def write(self, time: Any, *, instant: bool) -> str:
        """``time`` as the column writes it: a wall clock's, or with ``instant`` one of UTC; or a number that counts."""
        if not isinstance(time, np.datetime64):
            return str(int(time)) if not self.decimals else f"{int(time) / 10**self.decimals:.{self.decimals}f}"
        wall, minutes = time, 0
        if self.zone:
            utc = time if instant else _first_instant(time, self.zone)
            minutes = int(offsets_of(np.array([utc]), self.zone)[0])
            wall = utc + np.timedelta64(60 * minutes, "s")
        if self.unit == "year":
            months = int(wall.astype("datetime64[M]").astype(np.int64)) + 1970 * 12
            return str(round(months / 12, self.decimals))
        if self.unit == "excel":
            days = (wall - np.datetime64(SHEETS_BEGIN)) / np.timedelta64(1, "D")
            return str(round(float(days), self.decimals)) if self.decimals else str(round(days))
        if self.unit:
            return self._since_1970(wall - np.timedelta64(minutes, "m"))
        if not self.pattern:
            short = str(wall.astype("datetime64[s]")).replace("T", " ").removesuffix(" 00:00:00").removesuffix(":00")
            return short + (offset_text(minutes) if self.zone and ":" in short else "")
        return self._written(wall, minutes)

    def _since_1970(self, instant: Any) -> str:
        whole, rest = divmod(int(instant.astype("datetime64[ns]").astype(np.int64)), EPOCHS[self.unit])
        digits = f"{rest:0{len(str(EPOCHS[self.unit])) - 1}}"[: self.decimals]
        return f"{whole}.{digits}" if self.decimals else str(whole)

    def _written(self, wall: Any, minutes: int) -> str:
        import pandas as pd

        moment = pd.Timestamp(wall)
        week = moment.isocalendar()
        fraction = f"{moment.microsecond * 1000 + moment.nanosecond:09}"
        numbers = {
            "Y": (moment.year, 4),
            "y": (moment.year % 100, 2),
            "m": (moment.month, 2),
            "d": (moment.day, 2),
            "H": (moment.hour, 2),
            "I": ((moment.hour + 11) % 12 + 1, 2),
            "M": (moment.minute, 2),
            "S": (moment.second, 2),
            "j": (moment.dayofyear, 3),
            "q": (moment.quarter, 1),
            "h": ((moment.month + 5) // 6, 1),
            "G": (week[0], 4),
            "V": (week[1], 2),
            "u": (week[2], 1),
        }

        def one(found: re.Match[str]) -> str:
            how, letter = found.groups()
            if letter in numbers:
                value, width = numbers[letter]
                return str(value) if how == "-" else f"{value:0{width}}"
            if letter == "f":
                return fraction[: int(how or 6)]
            if letter == "Z":
                return abbreviation(wall - np.timedelta64(60 * minutes, "s"), self.zone, minutes)
            texts = {
                "b": self.months[moment.month - 1],
                "A": WEEKDAYS[moment.day_of_week],
                "a": WEEKDAYS[moment.day_of_week][:3],
                "p": "AM" if moment.hour < 12 else "PM",
                "P": "am" if moment.hour < 12 else "pm",
                "z": offset_text(minutes, ":" if how == ":" else ""),
            }
            return texts[letter]

        return _DIRECTIVE.sub(one, self.pattern)


#: As short as can be, the largest unit first: where a column says nothing else.
ISO = TimeFormat()


def _first_instant(wall: Any, zone: str) -> Any:
    """The first instant from which on clocks in ``zone`` say so; the next hour where they skip it."""
    for hours in range(3):
        found = to_utc(np.array([wall + np.timedelta64(hours, "h")]).astype("datetime64[ns]"), zone)[0]
        if not np.isnat(found):
            return found
    return wall


@dataclass(frozen=True)
class Reading:
    """One way to read a column of times.

    Attributes:
        times: what clocks on the wall say, ``datetime64[ns]``, or whole numbers that count; anything where ``faults``
            names the row.
        offsets: minutes by which these clocks are ahead of UTC, where the column says so.
        format: how it is written.
        words: what the user should know of the way: ``day first (31/12/2023)``; empty for what is plain.
        faults: by row, from 0, why its time cannot be read.
        usual: whether this is the way that such a column is mostly meant, should several be as good.
    """

    times: Times
    format: TimeFormat
    words: str = ""
    offsets: NDArray[np.int64] | None = None
    faults: dict[int, str] | None = None
    usual: bool = False
