"""The step of a time axis, and what a calendar says of a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formwright.data.holidays import holiday_dates
from formwright.data.times.words import WEEKDAYS
from formwright.data.times.zones import offset_text, offsets_of, to_wall
from formwright.errors import UserError

Times = NDArray[Any]

_UNITS = {
    "second": np.timedelta64(1, "s"),
    "minute": np.timedelta64(1, "m"),
    "hour": np.timedelta64(1, "h"),
    "day": np.timedelta64(1, "D"),
}
_SECOND, _MINUTE, _HOUR, _DAY = (int(unit.astype("timedelta64[ns]").astype(np.int64)) for unit in _UNITS.values())
#: Where in its month a time stands that comes once in so many months, where not on the same day of each.
ANCHORS = ("end", "first business day", "last business day")
_WAVES: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {"sin": np.sin, "cos": np.cos}
#: Days of the longer cycles.
_DAYS_OF_CYCLES = {"weekday": 7, "day": 28, "day_of_year": 365, "month": 334}
#: Features of a country's days, for rows of a day or less and for longer ones.
HOLIDAYS, HOLIDAY_COUNTS = ("holiday", "holiday_eve"), ("holidays_before", "holidays_after")
#: Steps of a longer season at most, and of the first one.
LONGEST_SEASON, LONGEST_DAY = 1008, 1440
#: What says how far rows are apart; the rest is what is made of their times.
_APART = ("step", "offset", "zone", "months", "weekdays", "slots", "decimals")


@dataclass(frozen=True)
class Frequency:
    """The step from one row to the next: of a clock or a counter, of months, or of the hours of some days.

    Attributes:
        name: as a person would say it: ``1 hour``, ``15 minutes``, ``1 month``.
        step: the step where a clock (or a counter) measures it, in nanoseconds (or counts).
        offset: pandas' name of the step in what earlier versions saved.
        season: steps after which a pattern may be expected to come again; 1 where none is.
        longer: longer seasons, such as the week of hours, rising.
        features: the calendar's features that tell rows apart.
        zone: whose clocks the features follow, where times are instants of UTC; empty where they are those of a wall.
        months: the step in months.
        anchor: where in its month a row stands: its day, or one of :data:`ANCHORS`.
        weekdays: days of the week that have rows, from Monday as 0, where others never have.
        slots: times of the day that have rows, in nanoseconds, on each of these days.
        decimals: of numbers that count, which are held without their point.
        country: whose holidays are among the features, such as ``DE`` or ``DE-BY``.
        holidays: the days of these, as far as they are known, such as ``2024-12-25``.
    """

    name: str
    step: int | None = None
    offset: str | None = None
    season: int = 1
    features: tuple[str, ...] = ()
    zone: str = ""
    months: int = 0
    anchor: str = ""
    weekdays: tuple[int, ...] = ()
    slots: tuple[int, ...] = ()
    decimals: int = 0
    longer: tuple[int, ...] = ()
    country: str = ""
    holidays: tuple[str, ...] = ()

    @property
    def seasons(self) -> tuple[int, ...]:
        """All seasons, from the shortest."""
        return tuple(season for season in (self.season, *self.longer) if season > 1)

    @property
    def dated(self) -> bool:
        """Whether rows have dates, and are not only counted."""
        return bool(self.features or self.slots or self.months or self.offset)

    @property
    def whole_days(self) -> bool:
        """Whether rows are one or more days apart."""
        return len(self.slots) == 1 or self.months > 0 or (self.step is not None and self.step % _DAY == 0)

    def like(self, other: Frequency) -> bool:
        """Whether rows are as far apart; those of months may stand anywhere in them."""
        return all(getattr(self, name) == getattr(other, name) for name in _APART)

    def after(self, time: Any, steps: int = 1) -> Any:
        """The time so many steps later."""
        return self.range(time, steps + 1)[-1]

    def range(self, start: Any, count: int) -> Times:
        """``count`` times from ``start`` on."""
        steps = np.arange(count, dtype=np.int64)
        if self.offset is not None:
            import pandas as pd

            return pd.date_range(start, periods=count, freq=self.offset).to_numpy()
        if self.slots:
            turns = self._turns(np.array([start]))
            assert turns is not None, "a schedule goes on from a time that it has"
            return self._scheduled(int(turns[0]) + steps)
        if self.months:
            return self._of_months(start, steps)
        assert self.step is not None
        return start + (steps * self.step).astype("timedelta64[ns]" if isinstance(start, np.datetime64) else np.int64)

    def places(self, times: Times) -> NDArray[np.int64] | None:
        """How many steps after the first of ``times`` each of them comes, or none if they are not on such an axis."""
        start = times[0]
        if self.offset is not None:
            import pandas as pd

            axis = pd.date_range(start, times.max(), freq=self.offset).to_numpy("datetime64[ns]")
            return np.searchsorted(axis, times) if np.isin(times, axis).all() else None
        if self.slots:
            turns = self._turns(times)
            return None if turns is None else turns - turns[0]
        if self.months:
            found = (times.astype("datetime64[M]") - np.datetime64(start, "M")).astype(np.int64) // self.months
            return found if (self._of_months(start, found) == times).all() else None
        assert self.step is not None
        difference = (times - start).astype(np.int64)
        return None if (difference % self.step).any() else difference // self.step

    def text(self, time: Any) -> str:
        """A time of the axis as short as it can be told, on the clocks of its zone."""
        if self.decimals:
            return f"{int(time) / 10**self.decimals:.{self.decimals}f}"
        if not self.zone or not isinstance(time, np.datetime64):
            return short_text(time)
        instant = np.array([time]).astype("datetime64[ns]")
        return short_text(to_wall(instant, self.zone)[0]) + offset_text(int(offsets_of(instant, self.zone)[0]))

    def _turns(self, times: Times) -> NDArray[np.int64] | None:
        """How many rows a schedule has from 1970 to each of ``times``, or none if it has no row at one of them."""
        days = times.astype("datetime64[D]")
        within = (times - days).astype("timedelta64[ns]").astype(np.int64)
        slots = np.array(self.slots)
        slot = np.minimum(np.searchsorted(slots, within), len(slots) - 1)
        mask = [day in self.weekdays for day in range(7)]
        if not (np.is_busday(days, weekmask=mask) & (slots[slot] == within)).all():
            return None
        return np.asarray(np.busday_count("1970-01-01", days, weekmask=mask) * len(slots) + slot)

    def _scheduled(self, turns: NDArray[np.int64]) -> Times:
        mask = [day in self.weekdays for day in range(7)]
        first = np.busday_offset("1970-01-01", 0, "forward", weekmask=mask)
        days = np.busday_offset(first, turns // len(self.slots), weekmask=mask).astype("datetime64[ns]")
        found: Times = days + np.array(self.slots)[turns % len(self.slots)].astype("timedelta64[ns]")
        return found

    def _of_months(self, start: Any, steps: NDArray[np.int64]) -> Times:
        first = np.datetime64(start, "M")
        within = np.datetime64(start, "ns") - np.datetime64(start, "D")
        months = first + (steps * self.months).astype("timedelta64[M]")
        found: Times = anchored(months, self.anchor).astype("datetime64[ns]") + within
        return found


def anchored(months: Times, anchor: str) -> Times:
    """The day of each of ``months`` that ``anchor`` says: ``15`` (or the last, if it has not so many), or a word."""
    start, after = months.astype("datetime64[D]"), (months + np.timedelta64(1, "M")).astype("datetime64[D]")
    last = after - np.timedelta64(1, "D")
    if anchor == "end":
        return last
    if anchor == "first business day":
        return np.busday_offset(start, 0, "forward")
    if anchor == "last business day":
        return np.busday_offset(after, -1, "forward")
    return np.minimum(start + np.timedelta64(int(anchor) - 1, "D"), last)


def short_text(time: Any) -> str:
    """A time as short as it can be told."""
    if not isinstance(time, np.datetime64):
        return str(time)
    whole = time.astype("datetime64[s]")
    if whole != time:
        return str(time.astype("datetime64[ns]")).replace("T", " ").rstrip("0")
    return str(whole).replace("T", " ").removesuffix(" 00:00:00").removesuffix(":00")


def clock_frequency(step: int, zone: str = "") -> Frequency:
    """The frequency of a step of so many nanoseconds."""
    name = spoken_step(step)
    season, *longer = _seasons(step)
    return Frequency(name, step, season=season, longer=tuple(longer), features=_features(step), zone=zone)


def spoken_step(step: int) -> str:
    """A step of so many nanoseconds as a person would say it."""
    unit, ticks = "second", step / 1e9
    for name, size in zip(_UNITS, (_SECOND, _MINUTE, _HOUR, _DAY), strict=True):
        if step % size == 0:
            unit, ticks = name, step // size
    if unit == "day" and ticks % 7 == 0:
        unit, ticks = "week", ticks // 7
    return f"{ticks:g} {unit}{'' if ticks == 1 else 's'}"


def counted_frequency(step: int, decimals: int = 0) -> Frequency:
    """The frequency of rows that are only counted, in units of so many decimals."""
    size = step / 10**decimals
    return Frequency("1 row" if size == 1 else f"{size:g} units", step, decimals=decimals)


def monthly_frequency(months: int, anchor: str = "1") -> Frequency:
    """The frequency of rows that come every so many months; see :attr:`Frequency.anchor`."""
    count, unit = (months // 12, "year") if months % 12 == 0 else (1, "quarter") if months == 3 else (months, "month")
    season = 12 // months if months < 12 and 12 % months == 0 else 1
    name = f"{count} {unit}{'' if count == 1 else 's'}"
    features = _cyclic("month") if months % 12 else ()
    return Frequency(name, season=season, features=features, months=months, anchor=anchor)


def scheduled_frequency(weekdays: tuple[int, ...], slots: tuple[int, ...]) -> Frequency:
    """The frequency of rows at the same times of the day on the same days of the week: a market's, a shop's."""
    days = spoken_days(weekdays)
    if len(slots) == 1:
        name = "1 business day" if weekdays == (0, 1, 2, 3, 4) else f"1 day ({days})"
        year = round(365.25 * len(weekdays) / 7)
        return Frequency(
            name, season=len(weekdays), longer=(year,), features=_features(_DAY), weekdays=weekdays, slots=slots
        )
    steps = np.diff(slots)
    common = int(steps.min())
    hours = f"{_hour(slots[0])} to {_hour(slots[-1])}, {days}"
    name = f"{spoken_step(common)} ({hours})" if (steps == common).all() else f"{len(slots)} times a day ({hours})"
    week = len(slots) * len(weekdays)
    longer = (week,) if len(slots) < week <= LONGEST_SEASON else ()
    features = _features(common)
    return Frequency(name, season=len(slots), longer=longer, features=features, weekdays=weekdays, slots=slots)


def spoken_days(weekdays: tuple[int, ...]) -> str:
    """``Monday to Friday``, or each day by its name."""
    if len(weekdays) == 7:
        return "every day"
    for first in weekdays:
        if len(weekdays) > 2 and {(first + step) % 7 for step in range(len(weekdays))} == set(weekdays):
            return f"{WEEKDAYS[first]} to {WEEKDAYS[(first + len(weekdays) - 1) % 7]}"
    return ", ".join(WEEKDAYS[day] for day in weekdays)


def _hour(slot: int) -> str:
    return f"{slot // _HOUR:02}:{slot % _HOUR // _MINUTE:02}"


def _seasons(step: int) -> tuple[int, ...]:
    """A minute of seconds, a day and a week of what is shorter than one, a week and a year of days, a year of weeks."""
    for limit, *periods in (
        (_MINUTE, _MINUTE),
        (_DAY, _DAY, 7 * _DAY),
        (7 * _DAY, 7 * _DAY, 365 * _DAY),
        (8 * _DAY, 364 * _DAY),
    ):
        if step < limit:
            even = [period // step for period in periods if period % step == 0]
            found = [steps for steps in even if steps <= LONGEST_SEASON or steps == even[0] <= LONGEST_DAY]
            return tuple(found) or (1,)
    return (1,)


def with_seasons(frequency: Frequency, seasons: Sequence[int]) -> Frequency:
    """The same with other seasons.

    Raises:
        UserError: one is no number of steps.
    """
    wrong = [season for season in seasons if season < 1]
    if wrong or not seasons:
        raise UserError(f"A season is a number of rows, at least 1, such as --season 24,168; got {seasons}.")
    first, *longer = sorted(set(seasons))
    return replace(frequency, season=first, longer=tuple(longer))


def with_cycles_within(frequency: Frequency, first: Any, last: Any) -> Frequency:
    """The same without the cycles of the calendar that do not come twice between two times: no row tells of them."""
    if not frequency.dated:
        return frequency
    days = float(np.diff(np.array([first, last], "datetime64[s]").astype(np.int64))[0]) / 86_400
    kept = [name for name in frequency.features if 2 * _DAYS_OF_CYCLES.get(name.rpartition("_")[0], 0) <= days + 1]
    return replace(frequency, features=tuple(kept))


def with_holidays(frequency: Frequency, country: str, first: Any, last: Any) -> Frequency:
    """The same with the holidays of a country as features, for rows between two times and some years beyond.

    Raises:
        UserError: the country is not known, or rows have no dates.
    """
    if not frequency.dated or (frequency.months and frequency.months % 12 == 0):
        raise UserError(f"Rows {frequency.name} apart have no holidays to tell apart; leave --country out.")
    days = holiday_dates(country, int(str(np.datetime64(first, "Y"))), int(str(np.datetime64(last, "Y"))))
    features = HOLIDAY_COUNTS if _days(frequency) > 1 else HOLIDAYS
    return replace(frequency, country=country, holidays=days, features=(*features, *frequency.features))


def _days(frequency: Frequency) -> int:
    """The days of a step, one for what is shorter."""
    if frequency.months:
        return round(30.4375 * frequency.months)
    return 1 if frequency.step is None else max(frequency.step // _DAY, 1)


def _cyclic(*names: str) -> tuple[str, ...]:
    return tuple(f"{name}_{wave}" for name in names for wave in _WAVES)


def _features(step: int) -> tuple[str, ...]:
    """The cycles that tell rows so many nanoseconds apart from each other, each by its sine and its cosine."""
    if step >= 7 * _DAY:
        return _cyclic("day_of_year")
    days = ("weekday", "day", "day_of_year")
    if step >= _DAY:
        return _cyclic(*days)
    if step >= _HOUR:
        return _cyclic("hour", *days)
    return _cyclic("minute", "hour", *days) if step >= _MINUTE else _cyclic("second", "minute", "hour", *days)


def ramps(step: int) -> tuple[str, ...]:
    """The features of GluonTS, which the authors of Informer and of what followed it use, for so many nanoseconds.

    Each is one ramp over its period, from -0.5 to 0.5.
    """
    if step >= 7 * _DAY:
        return ("day", "week")
    days = ("weekday", "day", "day_of_year")
    if step >= _DAY:
        return days
    if step >= _HOUR:
        return ("hour", *days)
    return ("minute", "hour", *days) if step >= _MINUTE else ("second", "minute", "hour", *days)


def _since(times: Times, unit: str) -> NDArray[np.int64]:
    return times.astype(f"datetime64[{unit}]").astype(np.int64)


def _day_of_month(times: Times) -> NDArray[np.int64]:
    return _since(times, "D") - times.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)


def _day_of_year(times: Times) -> NDArray[np.int64]:
    return _since(times, "D") - times.astype("datetime64[Y]").astype("datetime64[D]").astype(np.int64)


def _days_of(times: Times, unit: str) -> NDArray[np.int64]:
    """The days of the month or the year that each time is in."""
    begins = times.astype(f"datetime64[{unit}]")
    ends = begins + np.ones((), f"timedelta64[{unit}]")
    return _since(ends, "D") - _since(begins, "D")


#: Each ramp runs from -0.5 to 0.5 over its period. 1 January 1970 was a Thursday.
_RAMPS: dict[str, Callable[[Times], NDArray[np.float64]]] = {
    "second": lambda times: _since(times, "s") % 60 / 59 - 0.5,
    "minute": lambda times: _since(times, "m") % 60 / 59 - 0.5,
    "hour": lambda times: _since(times, "h") % 24 / 23 - 0.5,
    "weekday": lambda times: (_since(times, "D") + 3) % 7 / 6 - 0.5,
    "day": lambda times: _day_of_month(times) / 30 - 0.5,
    "day_of_year": lambda times: _day_of_year(times) / 365 - 0.5,
    "week": lambda times: np.minimum(_day_of_year(times) // 7, 52) / 52 - 0.5,
    "month": lambda times: _since(times, "M") % 12 / 11 - 0.5,
}
#: How much of each cycle has passed, from 0 to below 1: an hour counts its minutes, and a year all its days.
_CYCLES: dict[str, Callable[[Times], NDArray[np.float64]]] = {
    "second": lambda times: _since(times, "ms") % 60_000 / 60_000,
    "minute": lambda times: _since(times, "s") % 3600 / 3600,
    "hour": lambda times: _since(times, "s") % 86_400 / 86_400,
    "weekday": lambda times: (_since(times, "D") + 3) % 7 / 7,
    "day": lambda times: _day_of_month(times) / _days_of(times, "M"),
    "day_of_year": lambda times: _day_of_year(times) / _days_of(times, "Y"),
    "month": lambda times: _since(times, "M") % 12 / 12,
}


def calendar_features(times: Times, frequency: Frequency) -> NDArray[np.float64]:
    """The features of the frequency at each time, ``(time, features)``.

    ``<cycle>_sin`` and ``<cycle>_cos`` are those of ``2 pi`` times the share of the cycle that has passed, so that 23
    and 0 o'clock are neighbours; ``<cycle>`` alone, which earlier versions saved, is a ramp from -0.5 to 0.5.
    ``holiday`` says whether a day is one, ``holiday_eve`` whether the next one is; ``holidays_before`` and
    ``holidays_after`` count those of the step that ends with a row and of the step that begins with it.
    """
    if not frequency.features:
        return np.zeros((len(times), 0))
    walls = to_wall(times, frequency.zone) if frequency.zone else times
    return np.stack([_feature(name, walls, frequency) for name in frequency.features], axis=1)


def _feature(name: str, walls: Times, frequency: Frequency) -> NDArray[np.float64]:
    if name.startswith("holiday"):
        days = _since(walls, "D")
        known = _since(np.sort(np.array(frequency.holidays, "datetime64[D]")), "D")
        first, last = {
            "holiday": (0, 0),
            "holiday_eve": (1, 1),
            "holidays_before": (1 - _days(frequency), 0),
            "holidays_after": (0, _days(frequency) - 1),
        }[name]
        counts = np.searchsorted(known, days + last, "right") - np.searchsorted(known, days + first, "left")
        return counts.astype(np.float64)
    cycle, _, wave = name.rpartition("_")
    if wave not in _WAVES:
        return _RAMPS[name](walls)
    return _WAVES[wave](2 * np.pi * _CYCLES[cycle](walls))
