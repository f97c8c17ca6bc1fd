"""The step of a time axis, and what a calendar says of a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Times = NDArray[Any]

_UNITS = {
    "second": np.timedelta64(1, "s"),
    "minute": np.timedelta64(1, "m"),
    "hour": np.timedelta64(1, "h"),
    "day": np.timedelta64(1, "D"),
}
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
#: Steps that a clock does not measure, coarsest first, by pandas' names: how people call them, how many make a season,
#: and their features.
CALENDAR_STEPS: dict[str, tuple[str, int, tuple[str, ...]]] = {
    **{f"{kind}-{month}": ("year", 1, ()) for kind in ("YS", "YE") for month in _MONTHS},
    **{f"QS-{month}": ("quarter", 4, ("month",)) for month in _MONTHS[:3]},
    **{f"QE-{month}": ("quarter", 4, ("month",)) for month in _MONTHS[:3]},
    "MS": ("month", 12, ("month",)),
    "ME": ("month", 12, ("month",)),
    "B": ("business day", 5, ("weekday", "day", "day_of_year")),
}


@dataclass(frozen=True)
class Frequency:
    """The step from one row to the next.

    Attributes:
        name: as a person would say it: ``1 hour``, ``15 minutes``, ``1 month``.
        step: the step where a clock (or a counter) measures it, in nanoseconds (or counts).
        offset: pandas' name of the step where only a calendar does.
        season: steps after which a pattern may be expected to come again; 1 where none is.
        features: the calendar's features that tell rows apart.
    """

    name: str
    step: int | None = None
    offset: str | None = None
    season: int = 1
    features: tuple[str, ...] = ()

    def after(self, time: Any, steps: int = 1) -> Any:
        """The time so many steps later."""
        return self.range(time, steps + 1)[-1]

    def range(self, start: Any, count: int) -> Times:
        """``count`` times from ``start`` on."""
        if self.offset is not None:
            import pandas as pd

            return pd.date_range(start, periods=count, freq=self.offset).to_numpy()
        assert self.step is not None
        steps = np.arange(count, dtype=np.int64) * self.step
        return start + (steps.astype("timedelta64[ns]") if isinstance(start, np.datetime64) else steps)


def clock_frequency(step: int) -> Frequency:
    """The frequency of a step of so many nanoseconds."""
    unit, ticks = "second", step / 1e9
    for name, size in _UNITS.items():
        if step % int(size.astype("timedelta64[ns]").astype(np.int64)) == 0:
            unit, ticks = name, step // int(size.astype("timedelta64[ns]").astype(np.int64))
    if unit == "day" and ticks % 7 == 0:
        unit, ticks = "week", ticks // 7
    name = f"{ticks:g} {unit}{'' if ticks == 1 else 's'}"
    return Frequency(name, step, season=_season(step), features=_features(step))


def counted_frequency(step: int) -> Frequency:
    """The frequency of rows that are only counted."""
    return Frequency("1 row" if step == 1 else f"{step} units", step)


def calendar_frequency(offset: str) -> Frequency:
    """The frequency of one of :data:`CALENDAR_STEPS`."""
    unit, season, features = CALENDAR_STEPS[offset]
    return Frequency(f"1 {unit}", offset=offset, season=season, features=features)


_SECOND, _MINUTE, _HOUR, _DAY = (int(unit.astype("timedelta64[ns]").astype(np.int64)) for unit in _UNITS.values())


def _season(step: int) -> int:
    """A minute of seconds, a day of whatever is shorter than one, a week of days, a year of weeks."""
    for limit, period in ((_MINUTE, _MINUTE), (_DAY, _DAY), (7 * _DAY, 7 * _DAY), (8 * _DAY, 364 * _DAY)):
        if step < limit and period % step == 0 and period // step <= 1440:
            return period // step
    return 1


def _features(step: int) -> tuple[str, ...]:
    """The features of GluonTS for the unit, which the authors of Informer and of what followed it use."""
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


#: Each feature runs from -0.5 to 0.5 over its period. 1 January 1970 was a Thursday.
_FEATURES: dict[str, Callable[[Times], NDArray[np.float64]]] = {
    "second": lambda times: _since(times, "s") % 60 / 59 - 0.5,
    "minute": lambda times: _since(times, "m") % 60 / 59 - 0.5,
    "hour": lambda times: _since(times, "h") % 24 / 23 - 0.5,
    "weekday": lambda times: (_since(times, "D") + 3) % 7 / 6 - 0.5,
    "day": lambda times: _day_of_month(times) / 30 - 0.5,
    "day_of_year": lambda times: _day_of_year(times) / 365 - 0.5,
    "week": lambda times: np.minimum(_day_of_year(times) // 7, 52) / 52 - 0.5,
    "month": lambda times: _since(times, "M") % 12 / 11 - 0.5,
}


def calendar_features(times: Times, frequency: Frequency) -> NDArray[np.float64]:
    """The features of the frequency at each time, ``(time, features)``, each between -0.5 and 0.5."""
    if not frequency.features:
        return np.zeros((len(times), 0))
    return np.stack([_FEATURES[name](times) for name in frequency.features], axis=1)
