"""Series to forecast: cut into parts by time, scaled by the training part, read in windows.

Nothing that lies after a part can reach it: the rows of a part are a copy that ends where the part ends, the scaling is
computed from the copy of the training part, and gaps are filled from the past alone.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from formwright.data.calendar import Frequency, calendar_features, short_text
from formwright.data.frequencies import default_look_back
from formwright.data.splits import SCHEMA_VERSION
from formwright.errors import UserError
from formwright.files import read_json, write_json

Values = NDArray[np.float64]
Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = ("train", "val", "test")
#: Shares of the time axis for training and validation; the rest, which is the latest, is for testing.
TRAIN_SHARE, VAL_SHARE = 0.7, 0.1


@dataclass(frozen=True)
class Series:
    """One series on a regular time axis.

    Attributes:
        name: what it is called among several; empty if there is only one.
        times: ``(time,)`` increasing, of equal steps of the frequency (``datetime64[ns]``, or whole numbers).
        values: ``(time, columns)``, not a number where missing.
    """

    name: str
    times: NDArray[np.generic]
    values: Values


@dataclass(frozen=True)
class Scaling:
    """``(x - mean) / deviation`` of each column, ``(columns,)`` both."""

    mean: Values
    deviation: Values

    @staticmethod
    def fit(values: Values) -> Scaling:
        """From what is there of ``(time, columns)``; a column without values or variation keeps its scale."""
        there = np.isfinite(values)
        count = np.maximum(there.sum(0), 1)
        known = np.where(there, values, 0.0)
        mean = known.sum(0) / count
        deviation = np.sqrt(np.where(there, (values - mean) ** 2, 0.0).sum(0) / count)
        return Scaling(mean, np.where(deviation > 1e-12 * np.maximum(np.abs(mean), 1.0), deviation, 1.0))

    def apply(self, values: Values) -> Values:
        return (values - self.mean) / self.deviation

    def undo(self, values: Values, columns: slice = slice(None)) -> Values:
        """Back to the units of the data, for values ``(..., columns)``."""
        return values * self.deviation[columns] + self.mean[columns]


@dataclass(frozen=True)
class ColumnRoles:
    """What the columns of the values are, in their order: targets, covariates of the past, covariates known ahead."""

    targets: tuple[str, ...]
    past: tuple[str, ...] = ()
    known: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.targets, *self.past, *self.known)


@dataclass(frozen=True)
class SeriesData:
    """Series with their parts: what a model is trained on and judged by.

    Attributes:
        source: where they came from.
        series: at least one; all have the columns of ``layout`` and the same frequency.
        layout: what the columns are.
        frequency: the step of the time axis.
        length: steps that a model looks back on.
        horizon: steps that it forecasts.
        borders: the times at which validation and test begin, and the one before which the test ends; the same for
            all series, so that no series knows the future of another.
        notes: what the user should know of the reading.
    """

    source: str
    series: tuple[Series, ...]
    layout: ColumnRoles
    frequency: Frequency
    length: int
    horizon: int
    borders: tuple[np.generic, np.generic, np.generic]
    notes: tuple[str, ...] = ()

    @property
    def variates(self) -> int:
        """How many columns are forecast."""
        return len(self.layout.targets)

    @property
    def covariates(self) -> int:
        """How many columns are given beside them, calendar features included."""
        return len(self.layout.past) + len(self.layout.known) + len(self.frequency.features)

    @property
    def seasons(self) -> tuple[int, ...]:
        """Those of which the look-back holds at least one, and the first one."""
        return tuple(
            season for season in self.frequency.seasons if season <= self.length or season == self.frequency.season
        )

    def rows(self, series: Series, part: Part) -> tuple[int, int, int]:
        """Of ``part``: where its windows may begin to look back, its first row to be forecast, and its end.

        The look-back of a later part reaches into the part before it, as it will in use.
        """
        first, second, end = (int(np.searchsorted(series.times, border)) for border in self.borders)
        if part == "train":
            return 0, min(self.length, first), first
        begin, end = (first, second) if part == "val" else (second, end)
        return max(begin - self.length, 0), begin, end

    @cached_property
    def scalings(self) -> tuple[Scaling, ...]:
        """Of each series, from its training part; of a series that has no values there, from that of all others."""
        parts = [np.array(series.values[: self.rows(series, "train")[2]]) for series in self.series]
        everything = Scaling.fit(np.concatenate(parts))
        return tuple(
            Scaling.fit(values) if len(values) > 1 and np.isfinite(values).any(0).all() else everything
            for values in parts
        )

    def part_of(self, series: Series, scaling: Scaling, part: Part) -> tuple[Values, Values]:
        """Inputs ``(rows, columns and calendar)`` without gaps, and targets ``(rows, targets)`` with theirs, scaled."""
        start, _, end = self.rows(series, part)
        values = scaling.apply(np.array(series.values[start:end]))
        calendar = calendar_features(series.times[start:end], self.frequency)
        return np.concatenate([fill_forward(values), calendar], axis=1), values[:, : self.variates]

    def training_end(self, series: Series) -> int:
        return self.rows(series, "train")[2]

    def _record(self) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "borders": [short_text(border) for border in self.borders],
            "length": self.length,
            "horizon": self.horizon,
            "columns": list(self.layout.columns),
            "series": [[one.name, len(one.times), float(np.nansum(one.values))] for one in self.series],
        }

    def save_splits(self, path: str | Path) -> None:
        """Record the series and where their parts begin (JSON, atomically)."""
        write_json(Path(path), self._record())

    def check_splits(self, path: str | Path) -> None:
        """Raise a ``UserError`` unless series and parts are those recorded in ``path``."""
        if read_json(Path(path)) != json.loads(json.dumps(self._record())):
            raise UserError(
                f"The series or their parts are not those that {path} was recorded with; restore the data and give the "
                "same options, or start a new run in an empty folder."
            )


def fill_forward(values: Values) -> Values:
    """Gaps of scaled ``(time, columns)`` closed by the latest value before, or by zero, the mean, where there is none.

    Interpolation would tell a window what comes after it.
    """
    there = np.isfinite(values)
    latest = np.maximum.accumulate(np.where(there, np.arange(len(values))[:, None], -1), axis=0)
    filled = np.take_along_axis(values, np.maximum(latest, 0), axis=0)
    return np.where(latest >= 0, filled, 0.0)


def arrange(
    series: Sequence[Series],
    layout: ColumnRoles,
    frequency: Frequency,
    *,
    horizon: int | None = None,
    length: int | None = None,
    source: str = "arrays",
    borders: tuple[np.generic, np.generic, np.generic] | None = None,
    notes: Sequence[str] = (),
) -> SeriesData:
    """Cut series into parts by time: the earliest 70 % of it to train, 10 % to choose by, the latest 20 % to test.

    Args:
        series: on regular axes of the same frequency.
        layout: what their columns are.
        frequency: the step of the axes.
        horizon: steps to forecast; a season, or a twentieth of the rows, whichever is less, if unset.
        length: steps to look back on; :func:`~formwright.data.frequencies.default_look_back` if unset.
        source: where the series came from.
        borders: other times at which validation and test begin and the test ends.
        notes: what the user should know of the reading.

    Raises:
        UserError: the horizon or the look-back do not fit into the parts.
    """
    times = np.unique(np.concatenate([one.times for one in series]))
    count = len(times)
    if horizon is None:
        horizon = max(min(frequency.season if frequency.season > 1 else 12, count // 20), 1)
    if horizon < 1:
        raise UserError(f"The horizon is a number of steps, at least 1 (--horizon), got {horizon}.")
    if length is not None and length < 1:
        raise UserError(f"The look-back is a number of steps, at least 1 (--look-back), got {length}.")
    if borders is None:
        held_out = max(round(VAL_SHARE * count), horizon), max(round((1 - TRAIN_SHARE - VAL_SHARE) * count), horizon)
        training = count - sum(held_out)
        if count < 5:
            raise UserError(f"{count} rows are too few to learn a forecast from and to judge it: give at least 5.")
        if training < horizon + 2:
            raise UserError(
                f"A horizon of {horizon} steps is too long for {count} rows: training, validation and test each need "
                f"that many rows and the look-back, so it can be at most {max((count - 2) // 3, 0)}; shorten "
                "--horizon or give more data."
            )
        borders = times[training], times[training + held_out[0]], frequency.after(times[-1])
    else:
        training = int(np.searchsorted(times, borders[0]))
    longest = training - horizon - 1
    if length is None:
        length = max(1, min(default_look_back(frequency, horizon, count), longest - longest // 4))
    elif length > longest:
        raise UserError(
            f"A look-back of {length} steps and a horizon of {horizon} do not fit into the {training} training rows; "
            f"look back on at most {max(longest, 0)} (--look-back), or give more data."
        )
    data = SeriesData(source, tuple(series), layout, frequency, length, horizon, borders, tuple(notes))
    for part in PARTS:
        if not any(window_count(data, one, part) for one in series):
            raise UserError(
                f"No series of {source} is long enough for one window of {length} steps to look back on and {horizon} "
                f"to forecast in its {part} part; shorten --horizon or --look-back, or give more data."
            )
        _check_values(data, part)
    short = [one for one in series if not any(window_count(data, one, part) for part in PARTS)]
    if short:
        names = ", ".join(f"{one.name!r} ({len(one.times)} rows)" for one in short[:5])
        more = f" and {len(short) - 5:,} more" if len(short) > 5 else ""
        note = f"Too short for {length} steps to look back on and {horizon} to forecast, so not used: {names}{more}."
        data = dataclasses.replace(data, notes=(*data.notes, note))
    return data


def _check_values(data: SeriesData, part: Part) -> None:
    """Refuse a part that has no value of a column for some step ahead: nothing could be learned or judged there.

    Raises:
        UserError: names the column and the step.
    """
    steps = np.arange(data.horizon)
    counts = np.zeros((data.horizon, data.variates), np.int64)
    for one in data.series:
        windows = window_count(data, one, part)
        if windows:
            first = data.rows(one, part)[0] + data.length
            given = np.isfinite(one.values[:, : data.variates])
            before = np.concatenate([np.zeros((1, data.variates), np.int64), np.cumsum(given, axis=0)])
            counts += before[first + steps + windows] - before[first + steps]
    if (counts == 0).any():
        step, column = (int(place) for place in np.argwhere(counts == 0)[0])
        border, later = (data.frequency.text(border) for border in data.borders[:2])
        where = {
            "train": f"before {border}, where a model is trained",
            "val": f"from {border} up to {later}, where candidates are compared",
            "test": f"from {later} on, where the forecast is judged",
        }[part]
        raise UserError(
            f"Column {data.layout.targets[column]!r} of {data.source} has no value {where}"
            + (f", {step + 1} steps ahead" if step else "")
            + "; fill it in, leave rows without values out, or choose other columns with --target."
        )


def window_count(data: SeriesData, series: Series, part: Part) -> int:
    start, _, end = data.rows(series, part)
    return max(end - start - data.length - data.horizon + 1, 0)
