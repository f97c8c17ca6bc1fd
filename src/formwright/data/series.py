"""Series to forecast: each cut into parts by its own end, scaled by the training part, read in windows.

Nothing that lies after a part can reach it: the rows of a part are a copy that ends where the part ends (but for what
is known ahead), the scaling is computed from the copy of the training part, and gaps are filled from the past alone.
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

from formwright.data.calendar import Frequency, calendar_features
from formwright.data.frequencies import default_look_back
from formwright.data.splits import SCHEMA_VERSION
from formwright.errors import UserError
from formwright.files import read_json, write_json

Values = NDArray[np.float64]
Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = ("train", "val", "test")
#: Share of the rows before the test part that is for validation, if that is more than some horizons.
VAL_SHARE = 0.1
#: The fewest rows beside the horizon that parts can be made of.
LEAST_ROWS = 3


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
        ends: of each series, the rows at which its training, validation and test part end; a series that is too short
            for parts has three times the same.
        notes: what the user should know of the reading.
    """

    source: str
    series: tuple[Series, ...]
    layout: ColumnRoles
    frequency: Frequency
    length: int
    horizon: int
    ends: tuple[tuple[int, int, int], ...]
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

    def rows(self, index: int, part: Part, last: Part | None = None) -> tuple[int, int, int]:
        """Of ``part`` of a series: where its windows begin to look back, its first row to be forecast, and its end.

        The look-back of a later part reaches into the part before it, as it will in use. Where a series is too short
        for that, windows begin before its first row: below zero. With ``last`` the part goes on to the end of a later.
        """
        ends = self.ends[index]
        place = PARTS.index(part)
        end = ends[PARTS.index(last or part)]
        if part != "train":
            return ends[place - 1] - self.length, ends[place - 1], end
        begin = min(self.length, max((end - self.horizon) // 2, end // 2 if end <= self.horizon else 1, 1))
        return begin - self.length, begin, end

    def origins(self, index: int, part: Part, last: Part | None = None) -> NDArray[np.int64]:
        """Rows of a series from which on is forecast in ``part``; one alone where it has fewer rows than a horizon."""
        ends = self.ends[index]
        _, begin, end = self.rows(index, part, last)
        if ends[0] == ends[2] or end <= begin:
            return np.zeros(0, np.int64)
        return np.arange(begin, max(end - self.horizon, begin) + 1)

    @cached_property
    def scalings(self) -> tuple[Scaling, ...]:
        """Of each series, from its training part; of a series that has no values there, from that of all others."""
        parts = [np.array(one.values[: ends[0]]) for one, ends in zip(self.series, self.ends, strict=True)]
        everything = Scaling.fit(np.concatenate(parts))
        return tuple(
            Scaling.fit(values) if len(values) > 1 and np.isfinite(values).any(0).all() else everything
            for values in parts
        )

    def part_of(self, index: int, part: Part, last: Part | None = None) -> tuple[Values, Values]:
        """Inputs ``(rows, columns and calendar)`` without gaps, and targets ``(rows, targets)`` with theirs, scaled.

        Rows before the first are like the first. Where a part has fewer rows than a horizon, what is known ahead goes
        on, and targets are missing.
        """
        series, scaling = self.series[index], self.scalings[index]
        start, begin, end = self.rows(index, part, last)
        stop = max(end, min(begin + self.horizon, len(series.times)))
        given = np.array(series.values[max(start, 0) : stop])
        given[end - max(start, 0) :, : len(self.layout.targets) + len(self.layout.past)] = np.nan
        values = scaling.apply(given)
        calendar = calendar_features(series.times[max(start, 0) : stop], self.frequency)
        before, after = max(-start, 0), max(begin + self.horizon - stop, 0)
        inputs = np.concatenate([fill_forward(values), calendar], axis=1)
        inputs = np.pad(inputs, ((before, after), (0, 0)), mode="edge")
        targets = np.pad(values[:, : self.variates], ((before, after), (0, 0)), constant_values=np.nan)
        return inputs, targets

    def _record(self) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "ends": [list(ends) for ends in self.ends],
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
    held_out: tuple[int, int] | None = None,
    notes: Sequence[str] = (),
) -> SeriesData:
    """Cut each series into parts by its own end: the last horizon to test, some before to choose by, the rest to train.

    Validation has a tenth of the rows, or two horizons if that is more, where two seasons and a horizon are left to
    train on; a short series has one horizon, or a third of what is not tested on.

    Args:
        series: on regular axes of the same frequency.
        layout: what their columns are.
        frequency: the step of the axes.
        horizon: steps to forecast; a season, or a twentieth of the rows, whichever is less, if unset.
        length: steps to look back on; :func:`~formwright.data.frequencies.default_look_back` if unset.
        source: where the series came from.
        held_out: other numbers of rows to validate and to test on, of each series.
        notes: what the user should know of the reading.

    Raises:
        UserError: the horizon or the look-back do not fit into the parts.
    """
    targets = len(layout.targets)
    lasts = [_last_row(one.values[:, :targets]) for one in series]
    count = max(lasts)
    if horizon is None:
        horizon = max(min(frequency.season if frequency.season > 1 else 12, count // 20), 1)
    if horizon < 1:
        raise UserError(f"The horizon is a number of steps, at least 1 (--horizon), got {horizon}.")
    if length is not None and length < 1:
        raise UserError(f"The look-back is a number of steps, at least 1 (--look-back), got {length}.")
    if count < 4:
        raise UserError(f"{count} rows are too few to learn a forecast from and to judge it: give at least 4.")
    if count < horizon + LEAST_ROWS:
        raise UserError(
            f"A horizon of {horizon} steps is too long for {count} rows: it is held out to test on, and {LEAST_ROWS} "
            f"more rows are needed, so it can be at most {count - LEAST_ROWS}; shorten --horizon or give more data."
        )
    ends = tuple(_ends(last, horizon, frequency.season, held_out) for last in lasts)
    trained = sorted(train for train, _, end in ends if train < end)
    middle = trained[len(trained) // 2]
    if length is None:
        longest = max(middle - horizon - 1, middle // 2, 1)
        length = max(1, min(default_look_back(frequency, horizon, count), longest))
    elif length > trained[-1] - 1:
        raise UserError(
            f"A look-back of {length} steps does not fit into the {trained[-1]} rows to train on; look back on at most "
            f"{trained[-1] - 1} (--look-back), or give more data."
        )
    data = SeriesData(source, tuple(series), layout, frequency, length, horizon, ends, tuple(notes))
    for part in PARTS:
        _check_values(data, part)
    short = [(one.name, last) for one, last, (train, _, end) in zip(series, lasts, ends, strict=True) if train == end]
    if short:
        names = ", ".join(f"{name!r} ({last} rows)" for name, last in short[:5])
        more = f" and {len(short) - 5:,} more" if len(short) > 5 else ""
        note = f"Too short to learn from and to judge by, with {horizon} steps to forecast: {names}{more}."
        data = dataclasses.replace(data, notes=(*data.notes, note))
    return data


def _last_row(targets: Values) -> int:
    """The number of rows up to the last one with a value: what comes after is the future."""
    given = np.flatnonzero(np.isfinite(targets).any(1))
    return int(given[-1]) + 1 if len(given) else 0


def _ends(last: int, horizon: int, season: int, held_out: tuple[int, int] | None) -> tuple[int, int, int]:
    """Where the parts of a series end that has ``last`` rows."""
    if held_out is not None:
        return max(last - sum(held_out), 0), max(last - held_out[1], 0), last
    if last < horizon + LEAST_ROWS:
        return last, last, last
    before = last - horizon
    enough = max(2 * season, horizon) + 1
    for rows in (max(round(VAL_SHARE * before), 2 * horizon), horizon):
        if before - rows >= enough:
            return before - rows, before, last
    return before - max(min(horizon, before // 3), 1), before, last


def _check_values(data: SeriesData, part: Part) -> None:
    """Refuse a part that has no value of a column: nothing could be learned or judged there.

    Raises:
        UserError: names the column.
    """
    there = np.zeros(data.variates, bool)
    for index, one in enumerate(data.series):
        if len(data.origins(index, part)):
            _, begin, end = data.rows(index, part)
            there |= np.isfinite(one.values[begin:end, : data.variates]).any(0)
    if not there.all():
        column = data.layout.targets[int(np.argmin(there))]
        where = {
            "train": "in the rows where a model is trained",
            "val": "in the rows where candidates are compared",
            "test": f"in the last {data.horizon} rows, where the forecast is judged",
        }[part]
        raise UserError(
            f"Column {column!r} of {data.source} has no value {where}; fill it in, leave rows without values out, or "
            "choose other columns with --target."
        )
