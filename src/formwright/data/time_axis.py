"""Columns of times: read, checked for order and for one frequency, and laid on a regular axis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from formwright.data.calendar import Frequency, short_text, spoken_step
from formwright.data.frequencies import Fit, fit_axis, frequencies
from formwright.data.times.formats import Reading, TimeFormat
from formwright.data.times.readings import readings
from formwright.data.times.zones import days_from_midnight, offset_text, offsets_of, to_utc
from formwright.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

Times = NDArray[Any]
Rows = NDArray[np.int64]
as_text = short_text
_DAY = 86_400_000_000_000


@dataclass(frozen=True)
class Wanted:
    """What is known of the times of a table before it is read.

    Attributes:
        order: how dates are written (``--time-format``), see :func:`~formwright.data.times.readings.readings`.
        zone: of times that do not say theirs (``--time-zone``).
        frequency: that of the model which is asked.
        format: how the table was written that this model was trained on.
    """

    order: str = ""
    zone: str = ""
    frequency: Frequency | None = None
    format: TimeFormat | None = None


@dataclass(frozen=True)
class TimeAxis:
    """The times of a table.

    Attributes:
        times: of all rows, as ``frequency`` counts them; anything in the rows of ``bad`` series.
        groups: the rows of each series in the order of time.
        frequency: the step of all series.
        format: how the column is written.
        bad: the series whose times cannot be used, and why.
        notes: what the user should know of the reading.
        missing: rows that the axes of the other series lack.
        moved: rows that were not in order.
    """

    times: Times
    groups: Mapping[str, Rows]
    frequency: Frequency
    format: TimeFormat
    bad: dict[str, str]
    notes: tuple[str, ...]
    missing: int = 0
    moved: int = 0


def read_axis(column: pd.Series[Any], name: str, groups: Mapping[str, Rows], wanted: Wanted | None = None) -> TimeAxis:
    """The times of a column, and the one step of all series.

    Dates may be written in any order, and numbers be months or seconds: the way is taken in which the rows of the
    series are in order and the fewest are missing on a regular axis. Rows out of order are sorted, and that is told.

    Args:
        column: as it was read, indexed by the numbers of its rows.
        name: what it is called.
        groups: the rows of each series, as they stand.
        wanted: what is known before.

    Raises:
        UserError: times are missing, repeat, may be read in two ways or do not lie on one regular axis;
            the row is named. Of several series, only if that is so of all of them.
    """
    wanted = wanted or Wanted()
    found: list[tuple[Reading, TimeAxis]] = []
    errors: list[UserError] = []
    for way in readings(column, name, wanted.order, wanted.format):
        try:
            found.append((way, _Column(way, name, column.index.to_numpy(), groups, wanted).axis()))
        except UserError as error:
            errors.append(error)
    if not found:
        raise errors[0]
    costs = [axis.missing + axis.moved + sum(len(groups[series]) for series in axis.bad) for _, axis in found]
    best = [one for one, cost in zip(found, costs, strict=True) if cost == min(costs)]
    best = [one for one in best if one[0].usual] or best
    way, axis = best[0]
    if len(best) > 1 and way.words and not way.usual and (best[0][1].times != best[1][1].times).any():
        row = int(np.flatnonzero(best[0][1].times != best[1][1].times)[0])
        raise UserError(
            f"Column {name!r} has {str(column.iloc[row])!r} in row {column.index[row]}, which may be "
            f"{' or '.join(f'{as_text(one.times[row])} ({other.words})' for other, one in best[:2])}: which is the "
            "month cannot be told; say --time-format day-first or --time-format month-first, or write dates as "
            "2024-05-31."
        )
    told = []
    if way.words:
        row = min(set(range(len(column))) - set(way.faults or {}))
        told.append(f"Column {name!r} is read {way.words}: {column.iloc[row]} is {as_text(way.times[row])}.")
    return replace(axis, notes=(*told, *axis.notes))


def by_time(
    column: pd.Series[Any], name: str, groups: Mapping[str, Rows]
) -> tuple[dict[str, Rows], dict[str, str], tuple[str, ...]]:
    """The rows of each series in the order of time, the series whose times cannot be used and why, and what to tell.

    Raises:
        UserError: no time can be read.
    """
    ways = [_Column(way, name, column.index.to_numpy(), groups, Wanted()) for way in readings(column, name)]
    best = min(ways, key=lambda way: (len(way.bad), way.moved))
    return best.ordered, best.bad, best.sorting


@dataclass
class _Column:
    """One way to read a column, laid on an axis."""

    way: Reading
    name: str
    numbers: NDArray[Any]
    groups: Mapping[str, Rows]
    wanted: Wanted
    bad: dict[str, str] = field(init=False)
    instants: Times = field(init=False)
    ordered: dict[str, Rows] = field(init=False)
    #: rows that follow a later one
    late: list[tuple[int, int]] = field(init=False)

    def __post_init__(self) -> None:
        known = self.wanted.format
        if known is not None and known.decimals > self.way.format.decimals and self.way.times.dtype.kind != "M":
            more = 10 ** (known.decimals - self.way.format.decimals)
            self.way = replace(self.way, times=self.way.times * more, format=known)
        way, zone = self.way, self._zone
        faults = dict(way.faults or {})
        self.instants = way.times
        if way.offsets is not None:
            self.instants = way.times - way.offsets * np.timedelta64(1, "m")
        elif zone:
            self.instants = way.times.copy()
            for rows in self.groups.values():
                steps = np.diff(way.times[rows]).astype(np.int64)
                downwards = rows[::-1] if len(steps) and (steps <= 0).all() else rows  # the newest first
                self.instants[downwards] = to_utc(way.times[downwards], zone)
            for row in np.flatnonzero(np.isnat(self.instants)):
                faults[int(row)] = (
                    f"Column {self.name!r} has {as_text(way.times[row])} in row {self.numbers[row]}, which clocks in "
                    f"{zone} skip; name another zone with --time-zone, or correct the time."
                )
        self.bad, self.ordered, self.late = {}, {}, []
        wrong = np.zeros(len(way.times), bool)
        wrong[list(faults)] = True
        for series, rows in self.groups.items():
            self.ordered[series] = rows
            why = faults[int(rows[wrong[rows]][0])] if wrong[rows].any() else self._repeated(series, rows)
            if why:
                self.bad[series] = why
                continue
            late = np.flatnonzero(np.diff(self.instants[rows]).astype(np.int64) < 0)
            if len(late):
                self.ordered[series] = rows[np.argsort(self.instants[rows], kind="stable")]
                self.late += [(int(rows[place + 1]), int(rows[place])) for place in late]

    @property
    def _zone(self) -> str:
        """The zone that the clocks of the column are of, empty if none is known."""
        if self.way.times.dtype.kind != "M":
            return ""
        if self.way.offsets is not None:
            return self.way.format.zone
        return self.wanted.zone or (self.wanted.frequency.zone if self.wanted.frequency else "")

    @property
    def moved(self) -> int:
        """Rows that were not in order."""
        return len(self.late)

    @property
    def sorting(self) -> tuple[str, ...]:
        """A sentence where rows were sorted."""
        if not self.late:
            return ()
        (row, before), others = self.late[0], len(self.late) - 1
        more = f", and so {'is' if others == 1 else 'are'} {others:,} more" if others else ""
        return (
            f"Rows were sorted by time: row {self.numbers[row]} ({self._text(self.instants[row])}) is earlier than row "
            f"{self.numbers[before]} ({self._text(self.instants[before])}){more}.",
        )

    def _repeated(self, series: str, rows: Rows) -> str:
        """Why a series cannot be used in which a time stands twice; empty if none does."""
        times = self.instants
        ordered = np.sort(times[rows])
        twice = ordered[1:][np.diff(ordered).astype(np.int64) == 0]
        if not len(twice):
            return ""
        of = f" of series {series!r}" if series else ""
        first, second = self.numbers[rows[np.flatnonzero(times[rows] == twice[0])[:2]]]
        back = ""
        if not self._zone and _clocks_go_back(twice):
            back = "if clocks go back then, name the zone, such as --time-zone Europe/Berlin; else "
        return (
            f"Column {self.name!r} has {self._text(twice[0])} twice{of}, in rows {first} and {second}; {back}"
            "remove one, or name the column that tells several series apart with --series."
        )

    def _text(self, time: Any) -> str:
        if self.way.offsets is not None or self.way.format.decimals:
            return self.way.format.write(time, instant=True)
        return as_text(time)

    def axis(self) -> TimeAxis:
        """The frequency that most rows lie on, with the fewest missing, and why series do not."""
        good = {series: rows for series, rows in self.ordered.items() if series not in self.bad}
        if not good:
            raise UserError(next(iter(self.bad.values())))
        fits = list(self._fits(good))
        if not fits:
            raise UserError(
                f"Column {self.name!r} has one time a series; at least two are needed to know the step between them."
            )
        times, fit = min(fits, key=lambda one: one[1].missing + sum(len(good[series]) for series in one[1].bad))
        bad = {series: self._why(fit, times, series, good[series]) for series in good if series in fit.bad}
        if len(bad) == len(good):
            raise UserError(next(iter(bad.values())))
        return TimeAxis(
            times,
            self.ordered,
            fit.frequency,
            self._format(),
            {**self.bad, **bad},
            (*self._notes(), *self.sorting),
            fit.missing,
            self.moved,
        )

    def _fits(self, good: Mapping[str, Rows]) -> list[tuple[Times, Fit]]:
        """How the series lie on each axis that they may have, the likeliest first; on that of the model if they do."""
        wanted = self.wanted.frequency
        if wanted is not None and (self._walls.dtype.kind == "M") == wanted.dated:
            times = self.instants if wanted.zone else self._walls
            fit = fit_axis(wanted, times, good)
            if len(fit.bad) < len(good):
                return [(times, fit)]
        found = [(self._walls, one) for one in frequencies(self._walls, good, decimals=self.way.format.decimals)]
        if self._zone:
            instants = [(self.instants, one) for one in frequencies(self.instants, good, zone=self._zone)]
            # Days begin when clocks say so; hours are equally long whatever clocks say.
            found = found + instants if found[:1] and found[0][1].whole_days else instants + found
        return [(times, fit_axis(one, times, good)) for times, one in found]

    @cached_property
    def _walls(self) -> Times:
        """What clocks say; instants where offsets from UTC change as in no zone."""
        way = self.way
        if way.offsets is None:
            return way.times
        return self.instants if way.format.zone == "UTC" else days_from_midnight(way.times, way.format.zone)

    def _why(self, fit: Fit, times: Times, series: str, rows: Rows) -> str:
        """Why a series does not lie on the axis that the others lie on."""
        of = f" of series {series!r}" if series else ""
        frequency = fit.frequency
        steps = np.diff(times[rows]).astype(np.int64)
        if series in fit.sparse and series not in fit.other:
            return (
                f"Column {self.name!r}{of} has {len(rows):,} rows, and {fit.sparse[series]:,} more would be missing "
                f"between them, {frequency.name} apart: that is no series of equal steps; bring all rows to one step, "
                "for example with pandas' resample."
            )
        if series in fit.other:
            place = fit.other[series]
        elif frequency.step is not None:
            place = int(np.flatnonzero(steps % frequency.step)[0])
        else:
            return (
                f"Column {self.name!r}{of} has rows that are not {frequency.name} apart, as the others are; bring all "
                "rows to one frequency, for example with pandas' resample."
            )
        dated = times.dtype.kind == "M"
        step = spoken_step(int(steps[place])) if dated else frequency.text(steps[place])
        apart = frequency.name if dated else frequency.text(frequency.step)
        row = int(rows[place + 1])
        return (
            f"Column {self.name!r} goes on by {step}{of} in row {self.numbers[row]} ({self._text(times[row])}), where "
            f"most rows are {apart} apart; bring all rows to one frequency, for example with pandas' resample."
        )

    def _format(self) -> TimeFormat:
        """How forecasts are written: as the column is, on the clocks of the model's zone where the column's agree."""
        zone, known = self._zone, self.wanted.format.zone if self.wanted.format else ""
        if known and known != zone and self.way.offsets is not None:
            zone = known if (offsets_of(self.instants, known) == self.way.offsets).all() else zone
        return replace(self.way.format, zone=zone)

    def _notes(self) -> tuple[str, ...]:
        offsets = self.way.offsets
        if offsets is None or self.way.format.unit:
            return (f"Times are on the clocks of {self._zone}.",) if self._zone and offsets is None else ()
        told = sorted(set(offsets.tolist()))
        if self._zone == "UTC" and told == [0]:
            return ("Times are in UTC.",)
        if self._zone == "UTC":
            return (f"Offsets from UTC in column {self.name!r} change as in no zone; times are counted in UTC.",)
        if len(told) == 1:
            return (f"Times are those of UTC{offset_text(told[0])}.",)
        return (f"Offsets from UTC are {' and '.join(map(offset_text, told))}, as on the clocks of {self._zone}.",)


def _clocks_go_back(twice: Times) -> bool:
    """Whether times repeat as where clocks go back: in one night of a Sunday of spring or autumn a year."""
    if twice.dtype.kind != "M":
        return False
    days = np.unique(twice.astype("datetime64[D]"))
    years = np.unique(days.astype("datetime64[Y]"))
    return len(days) == len(years) and bool(((days.astype(np.int64) + 3) % 7 == 6).all())


def on_regular_axis(
    times: Times, values: NDArray[np.float64], frequency: Frequency
) -> tuple[Times, NDArray[np.float64]]:
    """All times from the first to the last at the frequency, and the values there, missing where no row was."""
    places = frequency.places(times)
    assert places is not None, "times lie on the axis of their frequency"
    axis = frequency.range(times[0], int(places[-1]) + 1)
    cells = np.full((len(axis), values.shape[1]), np.nan)
    cells[places] = values
    return axis, cells
