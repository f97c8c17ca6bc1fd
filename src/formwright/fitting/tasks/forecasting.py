"""Forecasting of series."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from torch import nn

from formwright.batch import Batch
from formwright.data.samples import carbon_dioxide
from formwright.data.series import PARTS, SeriesData
from formwright.data.series_batches import SeriesBatches, Windows, evaluation_windows
from formwright.data.series_files import looks_like_series, read_series
from formwright.data.splits import SCHEMA_VERSION
from formwright.data.time_axis import as_text
from formwright.deployment.forecasting import ForecastPreparation
from formwright.errors import UserError
from formwright.files import read_json, write_json
from formwright.fitting.forecast_figures import Examined, Measuring, by_step, examined, residuals
from formwright.fitting.forecast_page import forecast_page
from formwright.fitting.metric import Metric
from formwright.fitting.records import Baseline, FitResult
from formwright.fitting.task import TASKS, Findings, Page, Peer, Reading, Run, Task, Words
from formwright.models.identification import Pretrained
from formwright.objectives import ForecastDistillation, Forecasting, Objective
from formwright.search.series import ForecastSpace, SeriesShape
from formwright.training.recipe import Recipe

Values = NDArray[np.floating]

#: How often intervals are to hold, and how many series the report shows forecasts of.
COVERAGE, EXAMPLES = 0.9, 4
SHIPPED = "Shipped model"


@TASKS.register("forecasting")
class ForecastingTask(Task):
    """The next steps of series, from their past and from what is known ahead."""

    name: ClassVar[str] = "forecasting"
    order: ClassVar[int] = 15
    options: ClassVar[Mapping[str, str]] = {
        "target": "column or columns to forecast, separated by commas; all columns of numbers if unset",
        "horizon": "how many steps to forecast",
        "look_back": "how many steps to look back on",
        "time": "the column of times",
        "series": "the column that says which series a row is of",
        "known": "columns that are known ahead of time, separated by commas",
        "coverage": "how often the intervals are to hold, between 0 and 1",
    }
    metric: ClassVar[Metric] = Metric(
        "mean squared error", "mse", lower_is_better=True, tolerance=0.005, relative=True, closeness="0.5 % of"
    )
    words: ClassVar[Words] = Words(
        model="a forecaster",
        sample="window",
        samples="windows",
        argument="series.csv",
        answer="the next steps of each series, with intervals",
        figure="Mean squared error of the forecasts of the test part, of scaled values",
    )
    peer: ClassVar[Peer] = Peer("plain DLinear", "linear_forecaster")
    keeps_best: ClassVar[bool] = True
    leaves_range: ClassVar[bool] = True
    race_samples: ClassVar[int] = 1000

    def __init__(self, data: SeriesData, *, columns: tuple[str, str | None] = ("time", None), coverage: float) -> None:
        self.data = data
        self.columns = columns
        self.coverage = coverage
        self.source = data.source
        self._windows: dict[str, Windows] = {part: Windows(data, part) for part in PARTS}
        self.samples = {part: len(self._windows[part]) for part in PARTS}
        self.notes = (*data.notes, *self._inferred())
        self._measuring: Measuring | None = None
        self._rivals: dict[str, tuple[dict[str, float], Values]] = {}
        self._half_width: tuple[Values, float] | None = None

    @classmethod
    def recognise(cls, path: Path | None) -> str | None:
        return None if path is None else looks_like_series(path)

    @classmethod
    def read(
        cls,
        path: str | Path | None,
        *,
        seed: int,
        skip_bad: bool = False,
        pretrained: Pretrained | None = None,
        progress: Reading | None = None,
        **options: Any,
    ) -> Self:
        coverage = float(options.get("coverage") or COVERAGE)
        if not 0 < coverage < 1:
            raise UserError(f"The coverage of intervals lies between 0 and 1 (--coverage), got {coverage}.")
        if path is None:
            return cls(carbon_dioxide(options.get("horizon"), options.get("look_back")), coverage=coverage)
        table, data = read_series(
            path,
            horizon=options.get("horizon"),
            target=_names(options.get("target")) or None,
            length=options.get("look_back"),
            time=options.get("time"),
            series=options.get("series"),
            known=_names(options.get("known")),
        )
        return cls(data, columns=(table.time_column, table.series_column), coverage=coverage)

    def _inferred(self) -> Iterator[str]:
        data = self.data
        yield f"Rows are {data.frequency.name} apart" + (
            f"; a season has {data.frequency.season} of them." if data.frequency.season > 1 else "."
        )
        yield f"{data.length} steps are looked back on and {data.horizon} are forecast."
        cut = [as_text(border) for border in data.borders[:2]]
        yield f"What comes before {cut[0]} is trained on, what comes from {cut[1]} on is tested on."

    def _borders(self) -> dict[str, Any]:
        data = self.data
        return {
            "schema_version": SCHEMA_VERSION,
            "borders": [as_text(border) for border in data.borders],
            "length": data.length,
            "horizon": data.horizon,
            "columns": list(data.layout.columns),
            "series": [[one.name, len(one.times), float(np.nansum(one.values))] for one in data.series],
        }

    def save_splits(self, path: str | Path) -> None:
        write_json(Path(path), self._borders())

    def check_splits(self, path: str | Path) -> None:
        if read_json(Path(path)) != json.loads(json.dumps(self._borders())):
            raise UserError(
                f"The series or their parts are not those that {path} was recorded with; restore the data and give the "
                "same options, or start a new run in an empty folder."
            )

    def training_batches(self, batch_size: int, *, seed: int) -> SeriesBatches:
        return SeriesBatches(self._windows["train"], batch_size=batch_size, seed=seed)

    def evaluation_batches(
        self, part: str, *, batch_size: int | None = None, most: int | None = None
    ) -> Iterator[Batch]:
        return evaluation_windows(self._windows[part], batch_size=batch_size or 256, most=most)

    @property
    def space(self) -> ForecastSpace:
        data = self.data
        return ForecastSpace(
            SeriesShape(data.length, data.variates, data.covariates, data.horizon, self.samples["train"])
        )

    def objective(self, recipe: Recipe | None = None) -> Objective:
        return Forecasting()

    def distilled(self, recipe: Recipe, teacher: nn.Module) -> Objective:
        return ForecastDistillation(teacher, self.objective(recipe), weight=0.5)

    @property
    def worthwhile_samples(self) -> float:
        return float(2 * self.samples["train"])

    def counted(self, outputs: NDArray[np.float32], targets: NDArray[Any]) -> tuple[float, float]:
        errors = (outputs - targets).astype(np.float64)
        known = np.isfinite(errors)
        return float(np.square(errors[known]).sum()), float(max(known.sum(), 1))

    def same(self, ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which windows have the same forecast, to a thousandth of the deviation of the training part."""
        return np.asarray(np.abs(ours - theirs).max((1, 2)) <= 1e-3)

    @property
    def measuring(self) -> Measuring:
        if self._measuring is None:
            val, test = (examined(self._windows[part]) for part in ("val", "test"))
            self._measuring = Measuring(self.data, val, test, self.coverage)
        return self._measuring

    def _forecasts(self, run: Run, part: str, chosen: Examined) -> Values:
        windows = self._windows[part]
        pieces = np.split(chosen.indices, np.arange(256, len(chosen.indices), 256))
        return np.concatenate([run(windows.take(piece).inputs) for piece in pieces])

    def examine(self, run: Run, model: nn.Module) -> Findings:
        measuring = self.measuring
        val, test = measuring.val, measuring.test
        val_forecast, forecast = self._forecasts(run, "val", val), self._forecasts(run, "test", test)
        intervals = measuring.intervals(val_forecast)
        self._half_width = intervals.half_width, intervals.coverage
        own = measuring.figures(val_forecast, forecast)
        best = min(self._rivals.items(), key=lambda item: item[1][0]["mse"], default=None)
        steps = {SHIPPED: by_step(forecast, test.actual)}
        if best is not None:
            steps[best[0]] = by_step(best[1][1], test.actual)
        return Findings(
            test={**own, "stated_coverage": intervals.coverage},
            details={
                "table": [
                    {"name": name, **figures}
                    for name, figures in ((SHIPPED, own), *((name, rival[0]) for name, rival in self._rivals.items()))
                ],
                "by_step": steps,
                "residuals": residuals(forecast, test.actual),
                "examples": list(self._examples(forecast, intervals.half_width)),
            },
        )

    def _examples(self, forecast: Values, half_width: Values) -> Iterator[dict[str, Any]]:
        """The latest window of the test part of a few series and columns, in the units of the data."""
        measuring, data = self.measuring, self.data
        test = measuring.test
        latest = {int(owner): place for place, owner in enumerate(test.owners)}
        pairs = [(owner, column) for owner in latest for column in range(data.variates)]
        for owner, column in pairs[-EXAMPLES:] if len(latest) == 1 else pairs[:: data.variates][:EXAMPLES]:
            place = np.array([latest[owner]])
            owners = test.owners[place]
            lines = {
                "past": test.past[place],
                "actual": test.actual[place],
                "forecast": forecast[place],
                "low": forecast[place] - half_width,
                "high": forecast[place] + half_width,
            }
            row = int(test.origins[place[0]])
            yield {
                "series": data.series[owner].name,
                "column": data.layout.targets[column],
                "from": as_text(data.series[owner].times[row]),
                **{
                    name: [_rounded(value) for value in measuring.in_units(values, owners)[0, :, column]]
                    for name, values in lines.items()
                },
            }

    def baselines(self, *, seconds: float, seed: int) -> list[Baseline]:
        found = []
        for rival, val_forecast in self.measuring.baselines(self._windows["train"], seconds=seconds):
            figures = self.measuring.figures(val_forecast, rival.values)
            self._rivals[rival.name] = figures, rival.values
            found.append(Baseline(rival.name, self.metric.score(figures["mse"]), rival.seconds, rival.note))
        return found

    def preprocessing(self) -> ForecastPreparation:
        data = self.data
        assert self._half_width is not None, "a forecaster is examined before it is shipped"
        return ForecastPreparation(
            layout=data.layout,
            frequency=data.frequency,
            length=data.length,
            horizon=data.horizon,
            time_column=self.columns[0],
            series_column=self.columns[1],
            scalings={one.name: scaling for one, scaling in zip(data.series, data.scalings, strict=True)},
            half_width=np.asarray(self._half_width[0], np.float64),
            coverage=self._half_width[1],
        )

    def describe(self) -> dict[str, Any]:
        data = self.data
        return {
            "series": len(data.series),
            "rows": int(sum(len(one.times) for one in data.series)),
            "targets": list(data.layout.targets),
            "past": list(data.layout.past),
            "known": list(data.layout.known),
            "calendar": list(data.frequency.features),
            "frequency": data.frequency.name,
            "season": data.frequency.season,
            "length": data.length,
            "horizon": data.horizon,
            "first": as_text(min(one.times[0] for one in data.series)),
            "last": as_text(max(one.times[-1] for one in data.series)),
        }

    @classmethod
    def page(cls, result: FitResult, attachments: Mapping[int, Any]) -> Page:
        return forecast_page(result, cls.metric)


def _names(given: Any) -> list[str]:
    """Names from a list, or from a text that separates them by commas."""
    if given is None:
        return []
    if isinstance(given, str):
        return [name.strip() for name in given.split(",") if name.strip()]
    return [str(name) for name in given]


def _rounded(value: float) -> float | None:
    """Short in the file; none for what is missing."""
    return float(f"{value:.6g}") if np.isfinite(value) else None
