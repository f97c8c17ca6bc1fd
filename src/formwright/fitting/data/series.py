"""Series to forecast, in windows of the past that is read and what comes next."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from formwright.data.samples import carbon_dioxide
from formwright.data.series import PARTS, SeriesData
from formwright.data.series_files import looks_like_series, read_series
from formwright.data.times.formats import ISO, TimeFormat
from formwright.deployment.preparations.forecasting import ForecastPreparation
from formwright.fitting.kind import DATA, ENCODING, Data, Option, Reading
from formwright.inference.intervals import Intervals
from formwright.shapes import SeriesShape

if TYPE_CHECKING:
    from formwright.batch import Batch
    from formwright.data.series_batches import SeriesBatches, Windows


@DATA.register("series")
class TimeSeries(Data):
    """Series on a regular time axis, alone or with columns that are known ahead."""

    name: ClassVar[str] = "series"
    subject: ClassVar[str] = ""
    target: ClassVar[str] = "next steps"
    order: ClassVar[int] = 15
    expects: ClassVar[str] = "series (a .csv, .parquet or .feather table with a column of times)"
    options: ClassVar[Mapping[str, Option]] = {
        "target": Option("column or columns to forecast, separated by commas; all columns of numbers if unset"),
        "horizon": Option("how many steps to forecast", int),
        "look_back": Option("how many steps to look back on", int),
        "time": Option("column of times; inferred if unset"),
        "series": Option("column that says which series a row is of"),
        "known": Option("columns that are known ahead of time, separated by commas"),
        "time_format": Option(
            "how times are written: day-first, month-first, year-first, %d/%m/%Y or the like, or s, ms, us or ns since "
            "1970; inferred if unset"
        ),
        "time_zone": Option("whose clocks times are of that do not say so, such as Europe/Berlin"),
        "encoding": ENCODING,
    }
    sample: ClassVar[str] = "window"
    samples: ClassVar[str] = "windows"
    argument: ClassVar[str] = "series.csv"
    asked: ClassVar[str] = "each series of a table"
    race_samples: ClassVar[int] = 1000
    keeps_best: ClassVar[bool] = True
    learns_all: ClassVar[bool] = True
    leaves_range: ClassVar[bool] = True

    content: SeriesData
    preparation: ForecastPreparation

    def __init__(
        self,
        content: SeriesData,
        columns: tuple[str, str | None] = ("time", None),
        time_format: TimeFormat | None = None,
    ) -> None:
        self.content = content
        self.preparation = ForecastPreparation(
            layout=content.layout,
            frequency=content.frequency,
            length=content.length,
            horizon=content.horizon,
            time_column=columns[0],
            series_column=columns[1],
            scalings={one.name: scaling for one, scaling in zip(content.series, content.scalings, strict=True)},
            intervals=Intervals(np.zeros((content.horizon, 1)), np.zeros((content.horizon, 1)), 0.0, 0.0),
            time_format=time_format or ISO,
        )

    @cached_property
    def windows(self) -> dict[str, Windows]:
        """All windows of each part."""
        from formwright.data.series_batches import Windows

        return {part: Windows(self.content, part) for part in PARTS}

    @cached_property
    def samples_of(self) -> Mapping[str, int]:  # type: ignore[override]
        return {part: len(windows) for part, windows in self.windows.items()}

    @property
    def notes(self) -> tuple[str, ...]:
        content, season = self.content, self.content.frequency.season
        used = sorted((test - train, test) for train, test, end in content.ends if train < end)
        chosen, rows = used[len(used) // 2]
        of = f"Of each of {len(used):,} series" if len(content.series) > 1 else f"Of {rows + content.horizon:,} rows"
        typically = "some" if len({one for one, _ in used}) > 1 else f"the {chosen:,}"
        return (
            *content.notes,
            f"Rows are {content.frequency.name} apart" + (f"; a season has {season} of them." if season > 1 else "."),
            f"{content.length} past steps are read and {content.horizon} are forecast.",
            f"{of} the last {content.horizon} are tested on, {typically} before them choose, and all before is trained "
            "on; what is shipped learns all of them at the end.",
        )

    @classmethod
    def recognise(cls, path: Path | None) -> str | None:
        return None if path is None else looks_like_series(path)

    @classmethod
    def read(cls, path: Path | None, how: Reading) -> Self:
        options = dict(how.options)
        horizon, length = options.get("horizon"), options.get("look_back")
        if path is None:
            return cls(carbon_dioxide(horizon, length))
        table, content = read_series(
            path,
            horizon=horizon,
            target=_names(options.get("target")) or None,
            length=length,
            time=options.get("time"),
            series=options.get("series"),
            known=_names(options.get("known")),
            time_format=options.get("time_format"),
            time_zone=options.get("time_zone"),
            encoding=options.get("encoding"),
            skip_bad=how.skip_bad,
        )
        return cls(content, (table.time_column, table.series_column), table.time_format)

    def training_batches(self, batch_size: int, *, seed: int, parts: Sequence[str] = ("train",)) -> SeriesBatches:
        """Batches of the windows from the training part to the end of the last of ``parts``."""
        from formwright.data.series_batches import SeriesBatches, Windows

        last: Any = parts[-1]
        windows = self.windows["train"] if last == "train" else Windows(self.content, "train", last=last)
        return SeriesBatches(windows, batch_size=batch_size, seed=seed)

    def evaluation_batches(
        self, part: str, *, batch_size: int | None = None, most: int | None = None
    ) -> Iterator[Batch]:
        from formwright.data.series_batches import evaluation_windows

        return evaluation_windows(self.windows[part], batch_size=batch_size or 256, most=most)

    @property
    def shape(self) -> SeriesShape:
        content = self.content
        return SeriesShape(
            content.length, content.variates, content.covariates, content.horizon, self.samples_of["train"]
        )

    @property
    def worthwhile_samples(self) -> float:
        return float(2 * self.samples_of["train"])

    def describe(self) -> dict[str, Any]:
        content = self.content
        return {
            "series": len(content.series),
            "rows": int(sum(len(one.times) for one in content.series)),
            "targets": list(content.layout.targets),
            "past": list(content.layout.past),
            "known": list(content.layout.known),
            "calendar": list(content.frequency.features),
            "frequency": content.frequency.name,
            "season": content.frequency.season,
            "length": content.length,
            "horizon": content.horizon,
            "first": content.frequency.text(min(one.times[0] for one in content.series)),
            "last": content.frequency.text(max(one.times[-1] for one in content.series)),
        }

    @classmethod
    def facts(cls, data: Mapping[str, Any]) -> list[tuple[str, str]]:
        names = ", ".join(data["targets"][:6]) + (", …" if len(data["targets"]) > 6 else "")
        kinds = (("past", "known up to now"), ("known", "known ahead"), ("calendar", "of the calendar"))
        beside = ", ".join(f"{len(data[key])} {words}" for key, words in kinds if data[key])
        return [
            ("columns", names + (f"; beside them {beside}" if beside else "")),
            ("times", f"{data['first']} to {data['last']}, {data['frequency']} apart"),
            ("look-back and horizon", f"{data['length']} and {data['horizon']} steps"),
        ]

    @classmethod
    def summary(cls, data: Mapping[str, Any]) -> str:
        several = f"{data['series']:,} series, " if data["series"] > 1 else ""
        return f"{several}{data['rows']:,} rows, {data['frequency']} apart"


def _names(given: Any) -> list[str]:
    """Names from a list, or from a text that separates them by commas; one with a comma in it stands in quotes."""
    if given is None:
        return []
    if isinstance(given, str):
        return [name.strip() for name in next(csv.reader([given], skipinitialspace=True), []) if name.strip()]
    return [str(name) for name in given]
