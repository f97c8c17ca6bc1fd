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
from formwright.errors import UserError
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
        "look_back": Option(
            "how many steps to look back on; if unset, up to a week of hours or two seasons, of which each model may "
            "read fewer",
            int,
        ),
        "season": Option("rows after which a pattern comes again, or several such as 24,168; inferred if unset"),
        "country": Option("whose holidays are features of a day, such as DE or DE-BY"),
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
    fewest_steps: ClassVar[int] = 60
    several_widths: ClassVar[bool] = True
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
        *,
        look_back_is_given: bool = False,
    ) -> None:
        self.content, self.look_back_is_given = content, look_back_is_given
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
        content = self.content
        told = " or ".join(f"{season:,}" for season in content.seasons)
        used = sorted((test - train, test) for train, test, end in content.ends if train < end)
        chosen, rows = used[len(used) // 2]
        of = f"Of each of {len(used):,} series" if len(content.series) > 1 else f"Of {rows + content.horizon:,} rows"
        typically = "some" if len({one for one, _ in used}) > 1 else f"the {chosen:,}"
        return (
            *content.notes,
            f"Rows are {content.frequency.name} apart" + (f"; a season has {told} of them." if told else "."),
            *([f"Holidays are those of {content.frequency.country}."] if content.frequency.country else []),
            f"{content.length} past steps are read{self._may_read} and {content.horizon} are forecast.",
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
            return cls(carbon_dioxide(horizon, length), look_back_is_given=length is not None)
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
            season=_seasons(options.get("season")),
            country=options.get("country"),
        )
        columns = (table.time_column, table.series_column)
        return cls(content, columns, table.time_format, look_back_is_given=length is not None)

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
        calendar = content.frequency.features
        return SeriesShape(
            content.length,
            content.variates,
            content.covariates,
            content.horizon,
            self.samples_of["train"],
            ahead=len(content.layout.known) + len(calendar),
            cycles=sum(name.endswith("_cos") for name in calendar),
            seasons=content.seasons,
            look_backs=() if self.look_back_is_given else self.look_backs,
        )

    @property
    def _may_read(self) -> str:
        fewer = () if self.look_back_is_given else self.look_backs[1:]
        return f" (or the last {' or '.join(map(str, fewer))} of them)" if fewer else ""

    @property
    def look_backs(self) -> tuple[int, ...]:
        """What a model may read of a window: all of it, two seasons, or one; the horizon at least."""
        content = self.content
        season = content.frequency.season
        reach = (content.length, 2 * season, season)
        found = {max(steps, content.horizon) for steps in reach if steps > 1}
        return tuple(sorted((steps for steps in found if steps <= content.length), reverse=True))

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


def _seasons(given: Any) -> list[int]:
    """Numbers of rows from a list, or from a text that separates them by commas."""
    given = given.split(",") if isinstance(given, str) else [given] if isinstance(given, int) else given or []
    try:
        return [int(season) for season in given]
    except ValueError:
        raise UserError(
            f"A season is a number of rows, or several such as 24,168 (--season); got {','.join(map(str, given))}."
        ) from None


def _names(given: Any) -> list[str]:
    """Names from a list, or from a text that separates them by commas; one with a comma in it stands in quotes."""
    if given is None:
        return []
    if isinstance(given, str):
        return [name.strip() for name in next(csv.reader([given], skipinitialspace=True), []) if name.strip()]
    return [str(name) for name in given]
