"""What a shipped forecaster expects of a table of series."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
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
from formwright.deployment.forecasts import Forecast
from formwright.deployment.inputs import AS_FOUND, InputOptions
from formwright.deployment.preparation import PREPARATIONS, Answer, Preparation, Unanswered
from formwright.deployment.runtime import OnnxModel
from formwright.errors import UserError
from formwright.reporting import SILENT, Reporter

Values = NDArray[np.float64]
BATCH = 256


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
        half_width: of the intervals, ``(horizon, targets)``, in scaled units.
        coverage: how often the intervals are to hold.
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
    half_width: Values
    coverage: float
    time_format: TimeFormat = ISO

    def record(self) -> dict[str, Any]:
        return {
            "layout": dataclasses.asdict(self.layout),
            "frequency": _told(self.frequency, always=("name", "step", "offset", "season", "features")),
            "length": self.length,
            "horizon": self.horizon,
            "time_column": self.time_column,
            "series_column": self.series_column,
            "scalings": {
                name: [scaling.mean.tolist(), scaling.deviation.tolist()] for name, scaling in self.scalings.items()
            },
            "half_width": self.half_width.tolist(),
            "coverage": self.coverage,
            **({} if self.time_format == ISO else {"time_format": _told(self.time_format)}),
        }

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
            half_width=np.asarray(record["half_width"], np.float64).reshape(-1, len(layout.targets)),
            coverage=float(record["coverage"]),
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
        prepared = []
        for one in chunk:
            try:
                prepared.append((one, *self.window(table.source, one)))
            except UserError as error:
                yield Unanswered("series", one.name, str(error))
        if not prepared:
            return
        outputs = model(np.stack([window for _, window, _, _ in prepared]).astype(np.float32)).astype(np.float64)
        columns = slice(0, len(self.layout.targets))
        for (one, _, scaling, end), scaled in zip(prepared, outputs, strict=True):
            times = table.frequency.range(one.times[end - 1], self.horizon + 1)[1:]
            yield Forecast(
                series=one.name,
                times=[table.time_format.write(time, instant=bool(self.frequency.zone)) for time in times],
                columns=self.layout.targets,
                values=scaling.undo(scaled, columns),
                low=scaling.undo(scaled - self.half_width, columns),
                high=scaling.undo(scaled + self.half_width, columns),
                coverage=self.coverage,
                time_column=table.time_column,
                series_column=table.series_column,
            )

    def window(self, source: str, series: Series) -> tuple[Values, Scaling, int]:
        """The model's input ``(length, columns)``, the scaling to undo, and the row from which on is forecast.

        Rows at the end without any value to forecast are taken for the future, of which known columns are read.

        Raises:
            UserError: the series is too short, or what is to be known ahead is missing.
        """
        targets = len(self.layout.targets)
        given = np.flatnonzero(np.isfinite(series.values[:, :targets]).any(1))
        end = int(given[-1]) + 1 if len(given) else 0
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


def _told(value: Frequency | TimeFormat, always: Sequence[str] = ()) -> dict[str, Any]:
    """The fields that say something, and those that files have had always."""
    plain = {field.name: field.default for field in dataclasses.fields(value)}
    record = dataclasses.asdict(value)
    return {
        name: list(one) if isinstance(one, tuple) else one
        for name, one in record.items()
        if name in always or one != plain[name]
    }
