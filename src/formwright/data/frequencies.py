"""The one step of all series: of a clock or counter, of months, or of the hours and days of a schedule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formwright.data.calendar import (
    ANCHORS,
    Frequency,
    anchored,
    clock_frequency,
    counted_frequency,
    monthly_frequency,
    scheduled_frequency,
)

Times = NDArray[Any]
Rows = NDArray[np.int64]

#: The longest look-back that is chosen without being asked for, but for that on a longer season.
LONGEST_LOOK_BACK = 336
_DAY = 86_400_000_000_000
#: Days from the first row to the last before a weekday without rows counts as one that never has any; dates that have
#: rows before the same is said of times of the day; and times of the day at most.
_WEEKS, _DATES, _SLOTS = 21, 3, 1440
#: So many equal steps one after the other, longer than the common one, are no gaps but another frequency.
_RUN = 24


@dataclass(frozen=True)
class Fit:
    """How series lie on an axis.

    Attributes:
        frequency: of the axis.
        places: of the rows of each series that lies on it, from its first on.
        off: the series that do not.
        sparse: those of which more rows would be missing than there are, and how many.
        other: those that go on by another step for long, and the row within the series where that begins.
    """

    frequency: Frequency
    places: dict[str, NDArray[np.int64]]
    off: tuple[str, ...]
    sparse: dict[str, int]
    other: dict[str, int]

    @property
    def bad(self) -> set[str]:
        return {*self.off, *self.sparse, *self.other}

    @property
    def missing(self) -> int:
        """Rows that are missing on the axes of the series that can be used."""
        return sum(int(places[-1]) + 1 - len(places) for name, places in self.places.items() if name not in self.bad)


def fit_axis(frequency: Frequency, times: Times, groups: Mapping[str, Rows]) -> Fit:
    """How the series in ``groups``, rows of ``times`` in order, lie on an axis of this frequency."""
    places, off, sparse, other = {}, [], {}, {}
    for name, rows in groups.items():
        found = frequency.places(times[rows])
        if found is None or (np.diff(found) <= 0).any():
            off.append(name)
            continue
        places[name] = found
        missing = int(found[-1]) + 1 - len(found)
        if missing > len(found):
            sparse[name] = missing
        run = _run(np.diff(found))
        if run is not None:
            other[name] = run
    return Fit(frequency, places, tuple(off), sparse, other)


def _run(steps: NDArray[np.int64]) -> int | None:
    """Where the first run of equal steps begins that are longer than one."""
    if len(steps) < _RUN:
        return None
    starts = np.concatenate([[0], np.flatnonzero(np.diff(steps)) + 1])
    lengths = np.diff(np.concatenate([starts, [len(steps)]]))
    runs = starts[(lengths >= _RUN) & (steps[starts] > 1)]
    return int(runs[0]) if len(runs) else None


def frequencies(times: Times, groups: Mapping[str, Rows], zone: str = "", decimals: int = 0) -> Iterator[Frequency]:
    """The steps that the series may have, the likeliest first.

    Args:
        times: of all rows: instants of UTC with ``zone``, else those of a wall, or numbers that count.
        groups: the rows of each series, in order.
        zone: whose clocks features follow.
        decimals: of numbers that count.
    """
    steps = [np.diff(times[rows]).astype(np.int64) for rows in groups.values()]
    every = np.concatenate(steps) if steps else np.zeros(0, np.int64)
    if not len(every):
        return
    values, counts = np.unique(every, return_counts=True)
    values, counts = values[values > 0], counts[values > 0]
    if not len(values):
        return
    likely = dict.fromkeys([int(values[counts.argmax()]), int(values[0])])
    if times.dtype.kind != "M":
        yield from (counted_frequency(step, decimals) for step in likely)
        return
    used = times[np.concatenate(list(groups.values()))]
    if not zone:
        yield from _monthly(used, times, groups, np.unique(every))
    yield from (clock_frequency(step, zone) for step in likely)
    if not zone:
        yield from _scheduled(used)


def _monthly(used: Times, times: Times, groups: Mapping[str, Rows], steps: NDArray[np.int64]) -> Iterator[Frequency]:
    """Once in so many months, on the same day of each, at its end, or on its first or last business day."""
    days = used.astype("datetime64[D]")
    if (steps % _DAY).any() or steps[0] < 28 * _DAY:
        return
    months = days.astype("datetime64[M]")
    apart, counts = np.unique(
        np.concatenate([np.diff(times[rows].astype("datetime64[M]")).astype(np.int64) for rows in groups.values()]),
        return_counts=True,
    )
    day = int((days - months.astype("datetime64[D]")).astype(np.int64).max()) + 1
    for anchor in (str(day), *ANCHORS):
        if (anchored(months, anchor) == days).all():
            if anchor.isdigit() and int(anchor) > 28 and (anchored(months, "end") == days).all():
                anchor = "end"
            yield monthly_frequency(max(int(apart[counts.argmax()]), 1), anchor)
            return


def _scheduled(used: Times) -> Iterator[Frequency]:
    """The same times of the day on the same days of the week, where some of either never have a row."""
    days = np.unique(used.astype("datetime64[D]"))
    within = np.unique((used - used.astype("datetime64[D]")).astype("timedelta64[ns]").astype(np.int64))
    if len(within) > _SLOTS or (len(within) > 1 and len(days) < _DATES):
        return
    span = int((days[-1] - days[0]).astype(np.int64))
    present = tuple(int(day) for day in np.unique((days.astype(np.int64) + 3) % 7))
    if span >= _WEEKS and len(present) < 7:
        yield scheduled_frequency(present, tuple(int(slot) for slot in within))
    elif len(within) > 1:
        yield scheduled_frequency(tuple(range(7)), tuple(int(slot) for slot in within))


def default_look_back(frequency: Frequency, horizon: int, rows: int) -> int:
    """Steps to look back on: two seasons, a longer one that ``rows`` hold eight times, or the horizon: the most.

    A model may read less of it (:meth:`~formwright.shapes.SeriesShape.look_backs`).
    """
    longer = [season for season in frequency.longer if 8 * season <= rows]
    return max(horizon, min(2 * frequency.season, LONGEST_LOOK_BACK), *longer)
