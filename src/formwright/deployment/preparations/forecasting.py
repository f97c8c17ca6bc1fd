"""What a shipped forecaster expects of a table of series."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from formwright.data.calendar import Frequency, calendar_features
from formwright.data.series import ColumnRoles, Scaling, Series, fill_forward
from formwright.data.series_files import SeriesTable, read_table
from formwright.data.sheets import READERS
from formwright.data.time_axis import Wanted
from formwright.data.times.formats import ISO, TimeFormat
from formwright.deployment.appending import append_forecasts
from formwright.deployment.forecast_records import answer_record, intervals_of, lowest_of, spreads_of, told
from formwright.deployment.forecasts import Forecast
from formwright.deployment.inputs import AS_FOUND, InputOptions
from formwright.deployment.local_models.panel import KINDS, LocalModels, fitted, limits, mean_of
from formwright.deployment.preparation import PREPARATIONS, Answer, Preparation, Unanswered
from formwright.deployment.runtime import OnnxModel
from formwright.errors import UserError
from formwright.inference.intervals import Intervals
from formwright.metrics.forecasting import seasonal_difference
from formwright.reporting import SILENT, Reporter

Values = NDArray[np.float64]
BATCH = 256
#: The network among the members of the mean.
NETWORK = "network"
#: A series that has been away for more rows is forecast as if it were new.
MOST_MISSED = 1000


@PREPARATIONS.register("forecasting")
@dataclass(frozen=True)
class ForecastPreparation(Preparation):
    """From the table of a user to the model's input, and from its output to forecasts with intervals.

    Attributes:
        layout: what the columns of a table are.
        frequency: the step of its time axis.
        length: steps that the model looks back on.
        horizon: steps that it forecasts.
        time_column: what the training file called its times.
        series_column: what it called the names of its series.
        scalings: of each series of the training file; others are scaled by their own past.
        intervals: around forecasts, in spreads of a column.
        spreads: of the columns of each series, in their units; without any, intervals are of scaled values.
        lowest: below which no forecast of a column goes.
        weights: of the local forecasters and of the network (:data:`NETWORK`) in the mean that is the answer.
        local: the local forecasters, as of the latest rows of the training file.
        time_format: how the training file wrote its times.
    """

    task: ClassVar[str] = "forecasting"
    of: ClassVar[str] = "series"
    suffixes: ClassVar[Collection[str]] = READERS

    layout: ColumnRoles
    frequency: Frequency
    length: int
    horizon: int
    time_column: str
    series_column: str | None
    scalings: dict[str, Scaling]
    intervals: Intervals
    spreads: dict[str, Values] | None = None
    lowest: Values | None = None
    weights: dict[str, float] = field(default_factory=lambda: {NETWORK: 1.0})
    local: LocalModels | None = None
    time_format: TimeFormat = ISO

    def record(self) -> dict[str, Any]:
        return {
            "layout": dataclasses.asdict(self.layout),
            "frequency": told(self.frequency, always=("name", "step", "offset", "season", "features")),
            "length": self.length,
            "horizon": self.horizon,
            "time_column": self.time_column,
            "series_column": self.series_column,
            "scalings": {
                name: [scaling.mean.tolist(), scaling.deviation.tolist()] for name, scaling in self.scalings.items()
            },
            **answer_record(self.intervals, self.spreads, self.lowest, self.weights),
            **({} if self.time_format == ISO else {"time_format": told(self.time_format)}),
        }

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``preprocessing.json``, and the local forecasters beside it."""
        super().save(folder)
        if self.local is not None:
            self.local.save(Path(folder))

    @classmethod
    def from_record(cls, record: Mapping[str, Any], folder: Path) -> Self:
        layout = ColumnRoles(*(tuple(map(str, record["layout"][part])) for part in ("targets", "past", "known")))
        lists = ("features", "weekdays", "slots", "longer", "holidays")
        frequency: dict[str, Any] = {
            name: tuple(value) if name in lists else value for name, value in record["frequency"].items()
        }
        written: dict[str, Any] = {
            name: tuple(value) if name == "months" else value for name, value in record.get("time_format", {}).items()
        }
        return cls(
            layout=layout,
            frequency=Frequency(**frequency),
            length=int(record["length"]),
            horizon=int(record["horizon"]),
            time_column=str(record["time_column"]),
            series_column=record["series_column"],
            scalings={
                name: Scaling(np.asarray(mean, np.float64), np.asarray(deviation, np.float64))
                for name, (mean, deviation) in record["scalings"].items()
            },
            intervals=intervals_of(record),
            spreads=spreads_of(record.get("spreads")),
            lowest=lowest_of(record.get("lowest")),
            weights=(weights := dict(record.get("weights", {NETWORK: 1.0}))),
            local=LocalModels.load(folder) if any(name != NETWORK for name in weights) else None,
            time_format=TimeFormat(**written),
        )

    def predict(
        self,
        model: OnnxModel,
        inputs: Sequence[str],
        reporter: Reporter = SILENT,
        how: InputOptions = AS_FOUND,
    ) -> Iterator[Forecast | Unanswered]:
        """The next steps of every series in the files ``inputs``; last, what cannot be forecast, and why.

        Raises:
            UserError: nothing at all can be forecast; see :func:`~formwright.data.series_files.read_table`.
        """
        answered, failed = 0, list[Unanswered]()
        for file in inputs:
            reporter.stage(f"Forecasting {Path(file).name}")
            try:
                table = self.read(file, how)
            except UserError as error:
                failed.append(Unanswered("file", str(file), str(error)))
                continue
            for note in table.notes if how.skip_bad else ():
                reporter.note(note)
            failed += [Unanswered("series", name, why) for name, why in table.left_out.items()]
            for start in range(0, len(table.series), BATCH):
                chunk = table.series[start : start + BATCH]
                for answer in self._forecasts(model, table, chunk):
                    if isinstance(answer, Unanswered):
                        failed.append(answer)
                    else:
                        answered += 1
                        yield answer
                done = start + len(chunk)
                reporter.progress(done / len(table.series), f"{done:,} of {len(table.series):,} series")
        if failed and not answered:
            raise UserError(failed[0].reason)
        yield from failed

    def write(
        self,
        answers: Iterator[Answer],
        out: Path,
        reporter: Reporter = SILENT,
        how: InputOptions = AS_FOUND,
    ) -> Iterator[Answer]:
        """Add the forecasts to a CSV file (:func:`append_forecasts`)."""
        found = list(answers)
        forecasts = [answer for answer in found if not isinstance(answer, Unanswered)]
        reporter.note(f"{append_forecasts(out, forecasts, encoding=how.encoding):,} rows added to {out}.")
        yield from found

    def read(self, file: str | os.PathLike[str], how: InputOptions = AS_FOUND) -> SeriesTable:
        """The table in a file, with the columns and the frequency that the model was trained on.

        Raises:
            UserError: it cannot be used, or it is of another frequency.
        """
        layout = self.layout
        table = read_table(
            Path(file),
            target=layout.targets,
            time=self.time_column,
            series=self.series_column,
            past=layout.past,
            known=layout.known,
            keep_all=True,
            wanted=Wanted(frequency=self.frequency, format=self.time_format),
            encoding=how.encoding,
            skip_bad=how.skip_bad,
        )
        if not table.frequency.like(self.frequency):
            raise UserError(
                f"{file} has rows {table.frequency.name} apart, and the model was trained on rows "
                f"{self.frequency.name} apart; give data of that frequency, or fit a model to this one."
            )
        return table

    def _forecasts(
        self, model: OnnxModel, table: SeriesTable, chunk: Sequence[Series]
    ) -> Iterator[Forecast | Unanswered]:
        prepared: list[_Asked] = []
        for one in chunk:
            try:
                prepared.append(self._asked(table.source, one))
            except UserError as error:
                yield Unanswered("series", one.name, str(error))
        if not prepared:
            return
        found = self._local(prepared)
        if self.weights.get(NETWORK) or self.local is None:
            found[NETWORK] = self._network(model, prepared)
        values = mean_of(found, self.weights if self.local is not None else {NETWORK: 1.0})
        lowest = -np.inf if self.lowest is None else self.lowest
        for asked, own in zip(prepared, np.maximum(values, lowest), strict=True):
            low, high = self.intervals.around(own, self._spread(asked))
            one = asked.series
            times = table.frequency.range(one.times[asked.end - 1], self.horizon + 1)[1:]
            yield Forecast(
                series=one.name,
                times=[table.time_format.write(time, instant=bool(self.frequency.zone)) for time in times],
                columns=self.layout.targets,
                values=own,
                low=np.maximum(low, lowest),
                high=np.maximum(high, lowest),
                coverage=self.intervals.coverage,
                time_column=table.time_column,
                series_column=table.series_column,
            )

    def _asked(self, source: str, series: Series) -> _Asked:
        """A series that can be forecast, with the network's input where it is needed and can be made.

        Raises:
            UserError: the series has no value to forecast, is too short for the network where there is nothing else, or
                what is to be known ahead is missing.
        """
        end = self._end(series)
        called = f"Series {series.name!r} of {source}" if series.name else source
        if not end:
            raise UserError(f"{called} has no values to look back on; give it a past.")
        known = self._followed(series, end)
        if self.local is None or (self.weights.get(NETWORK) and end >= self.length):
            window, scaling, end = self.window(source, series)
            return _Asked(series, end, known, window, scaling)
        return _Asked(series, end, known)

    def _end(self, series: Series) -> int:
        """The number of rows up to the last one with a value to forecast: what comes after is the future."""
        given = np.flatnonzero(np.isfinite(series.values[:, : len(self.layout.targets)]).any(1))
        return int(given[-1]) + 1 if len(given) else 0

    def _followed(self, series: Series, end: int) -> Values | None:
        """The rows that a known series has had since its forecasters were fitted; none of one that is not known."""
        if self.local is None or series.name not in self.local.places:
            return None
        targets = slice(0, len(self.layout.targets))
        learned, times = self.local.ends[self.local.places[series.name]], series.times[:end]
        if self.frequency.months:
            learned, times = learned.astype("datetime64[M]"), times.astype("datetime64[M]")
        if times[-1] < learned:  # asked as of an earlier time
            return None
        if times[0] <= learned:
            return np.array(series.values[int(np.searchsorted(times, learned, side="right")) : end, targets])
        places = self.frequency.places(np.array([learned, times[0]]))
        if places is None or places[1] > MOST_MISSED:
            return None
        return np.concatenate([np.full((int(places[1]) - 1, targets.stop), np.nan), series.values[:end, targets]])

    def _network(self, model: OnnxModel, asked: Sequence[_Asked]) -> Values:
        """What the network says, ``(series, horizon, targets)`` in units; not a number of series without an input."""
        columns = slice(0, len(self.layout.targets))
        found = np.full((len(asked), self.horizon, columns.stop), np.nan)
        able = [place for place, one in enumerate(asked) if one.window is not None]
        if able:
            outputs = model(np.stack([asked[place].window for place in able]).astype(np.float32))  # type: ignore[misc]
            for place, scaled in zip(able, outputs.astype(np.float64), strict=True):
                scaling = asked[place].scaling
                assert scaling is not None
                found[place] = scaling.undo(scaled, columns)
        return found

    def _local(self, asked: Sequence[_Asked]) -> dict[str, Values]:
        """What each local forecaster says, ``(series, horizon, targets)``: followed, or fitted to what is at hand."""
        if self.local is None:
            return {}
        targets, shape = len(self.layout.targets), (len(asked), self.horizon, len(self.layout.targets))
        found = {name: np.full(shape, np.nan) for name in self.local.members}
        groups: dict[int | None, list[int]] = {}
        for place, one in enumerate(asked):
            groups.setdefault(None if one.news is None else len(one.news), []).append(place)
        for count, places in groups.items():
            if count is None:
                columns = [
                    asked[place].series.values[: asked[place].end, target]
                    for place in places
                    for target in range(targets)
                ]
                lowest, highest = limits(columns)
                rows = np.zeros((0, len(columns)))
                members = {name: fitted(KINDS[name], columns, self.frequency.season) for name in found}
            else:
                of = np.array([self.local.places[asked[place].series.name] for place in places])
                own = (of[:, None] * targets + np.arange(targets)).ravel()
                lowest, highest = self.local.lowest[own], self.local.highest[own]
                rows = np.concatenate([asked[place].news for place in places], axis=1)
                members = {name: member.take(own) for name, member in self.local.members.items()}
            for name, member in members.items():
                for row in rows:
                    member.advance(row)
                forecast = member.forecast(self.horizon).clip(lowest, highest)
                found[name][places] = np.moveaxis(forecast.reshape(self.horizon, len(places), targets), 0, 1)
        return found

    def _spread(self, asked: _Asked) -> Values:
        """What the intervals of a series are multiples of: as found in fitting, or like its seasonal differences."""
        name, own = asked.series.name, asked.series.values[: asked.end]
        columns = slice(0, len(self.layout.targets))
        if self.spreads is None:
            return (self.scalings.get(name) or Scaling.fit(own)).deviation[columns]
        if name in self.spreads:
            return self.spreads[name]
        season = self.frequency.season
        difference = seasonal_difference(own[:, columns], season if len(own) > season else 1)
        return np.where(np.isfinite(difference) & (difference > 0), difference, Scaling.fit(own).deviation[columns])

    def window(self, source: str, series: Series) -> tuple[Values, Scaling, int]:
        """The model's input ``(length, columns)``, the scaling to undo, and the row from which on is forecast.

        Rows at the end without any value to forecast are taken for the future, of which known columns are read.

        Raises:
            UserError: the series is too short, or what is to be known ahead is missing.
        """
        targets, end = len(self.layout.targets), self._end(series)
        called = f"Series {series.name!r} of {source}" if series.name else source
        if end < self.length:
            count = f"{end} rows" if end else "no values"
            raise UserError(
                f"{called} has {count} to look back on, and the model needs {self.length}; give a longer past."
            )
        scaling = self.scalings.get(series.name) or Scaling.fit(series.values[:end])
        shift = min(self.length, self.horizon)
        values = fill_forward(scaling.apply(series.values))
        known = values[:, targets + len(self.layout.past) :]
        ahead = self._ahead(called, series, known, end, shift)
        times = self.frequency.range(series.times[end - self.length], self.length + shift)[shift:]
        calendar = calendar_features(times, self.frequency)
        now = values[end - self.length : end, : targets + len(self.layout.past)]
        return np.concatenate([now, ahead, calendar], axis=1), scaling, end

    def _ahead(self, called: str, series: Series, known: Values, end: int, shift: int) -> Values:
        if not self.layout.known:
            return np.zeros((self.length, 0))
        last = end - self.length + shift + self.length
        there = np.isfinite(series.values[:, len(self.layout.targets) + len(self.layout.past) :])
        if len(known) < last or not there[end:last].all():
            raise UserError(
                f"{called} does not say {', '.join(map(repr, self.layout.known))} for the {shift} rows after its last "
                "value, which are to be known ahead; add these rows, with nothing in the columns to forecast."
            )
        return known[last - self.length : last]


@dataclass(frozen=True)
class _Asked:
    """A series to forecast.

    Attributes:
        series: itself.
        end: the number of its rows that have come.
        news: its rows since its forecasters were fitted; none if there are no forecasters of it.
        window: the network's input, and the scaling to undo, where it is asked.
    """

    series: Series
    end: int
    news: Values | None
    window: Values | None = None
    scaling: Scaling | None = None
