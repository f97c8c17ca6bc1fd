"""Forecasting: the next steps of series, with intervals."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from formwright.deployment.local_models.panel import KINDS, mean_of
from formwright.deployment.preparations.forecasting import NETWORK, ForecastPreparation
from formwright.errors import UserError
from formwright.fitting.data.series import TimeSeries
from formwright.fitting.forecast_page import forecast_page
from formwright.fitting.goal import GOALS, Findings, Goal, Page, Run
from formwright.fitting.kind import Data, Option
from formwright.fitting.metric import Metric, percent
from formwright.fitting.records import Baseline, FitResult
from formwright.fitting.shown import Shown
from formwright.inference.intervals import WORTH

if TYPE_CHECKING:
    from torch import nn

    from formwright.fitting.forecast_figures import Examined, Measuring
    from formwright.fitting.local_answers import Chosen
    from formwright.inference.intervals import Intervals
    from formwright.objectives import Objective
    from formwright.training.recipe import Recipe

Values = NDArray[np.floating]

#: How often intervals are to hold, and how many series the report shows forecasts of.
COVERAGE, EXAMPLES = 0.9, 4
SHIPPED = "Shipped model"
TITLES = {NETWORK: NETWORK, "mean": "mean", **{name: kind.title for name, kind in KINDS.items()}}


@GOALS.register("forecasting")
class ForecastingGoal(Goal[TimeSeries]):
    """The next steps of each series, scaled by the deviation of the training part."""

    name: ClassVar[str] = "forecasting"
    target: ClassVar[str] = "next steps"
    options: ClassVar[Mapping[str, Option]] = {
        "coverage": Option("how often the intervals are to hold, between 0 and 1; 0.9 if unset", float),
    }
    metric: Metric = Metric(
        "mean squared error", "mse", lower_is_better=True, tolerance=0.005, relative=True, closeness="0.5 % of"
    )
    model: ClassVar[str] = "a forecaster"
    answer: ClassVar[str] = "the next steps of {asked}, with intervals"
    figure: ClassVar[str] = "Mean squared error of the forecasts of the test part, of scaled values"
    title: ClassVar[str] = "How it forecasts"
    template: ClassVar[str] = "forecasting.html.j2"
    tolerance: ClassVar[float | None] = 1e-3

    def __init__(self, data: TimeSeries, *, coverage: Any = None) -> None:
        super().__init__(data)
        self.coverage = float(coverage or COVERAGE)
        if not 0 < self.coverage < 1:
            raise UserError(f"The coverage of intervals lies between 0 and 1 (--coverage), got {coverage}.")
        self._rivals: dict[str, tuple[dict[str, float], Values]] = {}
        self._chosen: Chosen | None = None
        self._val: dict[str, Values] = {}
        self._test: dict[str, Values] = {}
        self._answers: dict[Literal["val", "test"], Values] | None = None

    def objective(self, recipe: Recipe | None = None) -> Objective:
        from formwright.objectives import Forecasting

        return Forecasting()

    def distilled(self, recipe: Recipe, teacher: nn.Module) -> Objective:
        from formwright.objectives import ForecastDistillation

        return ForecastDistillation(teacher, self.objective(recipe), weight=0.5)

    def counted(self, outputs: NDArray[np.float32], targets: NDArray[Any]) -> tuple[float, float]:
        errors = (outputs - targets).astype(np.float64)
        known = np.isfinite(errors)
        return float(np.square(errors[known]).sum()), float(max(known.sum(), 1))

    @cached_property
    def measuring(self) -> Measuring:
        from formwright.fitting.forecast_figures import Measuring, examined

        val, test = (examined(self.data.windows[part]) for part in ("val", "test"))
        return Measuring(self.data.content, val, test, self.coverage)

    def _forecasts(self, run: Run, part: str, chosen: Examined) -> Values:
        windows = self.data.windows[part]
        pieces = np.split(chosen.indices, np.arange(256, len(chosen.indices), 256))
        return np.concatenate([run(windows.take(piece).inputs) for piece in pieces])

    def calibrate(self, run: Run, *, seconds: float) -> None:
        """Fit local forecasters to the training part, and find the mean that forecasts the validation part best."""
        from formwright.fitting.local_answers import Chosen, LocalAnswers, choose

        measuring, val = self.measuring, self.measuring.val
        self._local = local = LocalAnswers(self.data.content)
        members = local.fit(0, local.kinds, seconds=seconds / 3)
        said = local.forecasts(members, 0, val.owners, val.origins)
        self._val = {name: measuring.scaled(values, val.owners) for name, values in said.items()}
        self._val[NETWORK] = self._forecasts(run, "val", val)
        trusted = local.trusted(members)
        if local.telling:
            self._chosen = choose(self._val, val, measuring.scale, trusted)
        else:
            self._chosen = Chosen(dict.fromkeys(trusted, 1 / len(trusted)), {}, "validation is too short to choose by")
        kinds = [name for name in members if name in self.weights or name in local.CHEAP]
        self._test = {}
        said = local.forecasts(local.fit(1, kinds), 1, measuring.test.owners, measuring.test.origins)
        self._test = {name: measuring.scaled(values, measuring.test.owners) for name, values in said.items()}

    @property
    def asks_model(self) -> bool:
        return self._chosen is None or bool(self.weights.get(NETWORK))

    @property
    def remarks(self) -> list[str]:
        assert self._chosen is not None, "a forecaster is calibrated before anything is said of it"
        content = self.data.content
        found = [f"Forecasts are {_mean(list(self.weights))}: {self._chosen.reason}."]
        if NETWORK not in self.weights:
            unused = ", ".join(map(repr, (*content.layout.past, *content.layout.known)))
            found.append(
                "The network has no share in them, so model.onnx has learned the training part alone"
                + (f", and {unused} {'is' if unused.count(',') == 0 else 'are'} not used." if unused else ".")
            )
        if self._local.left_out:
            found.append(f"There was no time for {_listed([TITLES[name] for name in self._local.left_out])}.")
        intervals, _ = self.measuring.intervals({"val": self._answer("val", self._val)})
        if not intervals.sure:
            found.append(
                f"Intervals of {percent(self.coverage)} cannot be vouched for: they rest on {intervals.forecasts:.1f} "
                f"forecasts that do not overlap, and {1 / (1 - self.coverage) / WORTH:.0f} are needed; give more data."
            )
        return found

    @property
    def weights(self) -> dict[str, float]:
        """Of the members of the mean that is the answer."""
        return self._chosen.weights if self._chosen is not None else {NETWORK: 1.0}

    def _answer(self, part: Literal["val", "test"], forecasts: Mapping[str, Values]) -> Values:
        """The mean that is shipped, scaled."""
        mean = mean_of(forecasts, self.weights)
        mean = np.where(np.isfinite(mean), mean, forecasts[NETWORK])
        owners = (self.measuring.val if part == "val" else self.measuring.test).owners
        return self.measuring.raised(mean, owners)

    def examine(self, run: Run, model: nn.Module) -> Findings:
        from formwright.fitting.forecast_figures import by_step, residuals

        measuring = self.measuring
        test = measuring.test
        if not self._val:
            self.calibrate(run, seconds=np.inf)
        self._test[NETWORK] = self._forecasts(run, "test", test)
        self._answers = {"val": self._answer("val", self._val), "test": self._answer("test", self._test)}
        val_forecast, forecast = self._answers["val"], self._answers["test"]
        own = measuring.figures(val_forecast, forecast)
        intervals, spreads = measuring.intervals({"val": val_forecast})
        for name, values in self._test.items():
            if len(self.weights) > 1 or name not in self.weights:
                self._rivals[TITLES[name]] = measuring.figures(self._val[name], values), values
        best = min(self._rivals.items(), key=lambda item: item[1][0]["mse"], default=None)
        steps = {SHIPPED: by_step(forecast, test.actual)}
        if best is not None:
            steps[best[0]] = by_step(best[1][1], test.actual)
        rows = [(SHIPPED, own), *((name, figures) for name, (figures, _) in self._rivals.items())]
        return Findings(
            test={**own, "stated_coverage": intervals.coverage},
            details={
                "table": [{"name": name, **figures} for name, figures in rows],
                "by_step": steps,
                "residuals": residuals(forecast, test.actual),
                "examples": list(self._examples(forecast, intervals, spreads)),
                "weights": {TITLES[name]: weight for name, weight in self.weights.items()},
                "validation": {TITLES[name]: error for name, error in self._chosen.errors.items()},
                "reason": self._chosen.reason,
            },
        )

    def _examples(self, forecast: Values, intervals: Intervals, spreads: Values) -> Iterator[dict[str, Any]]:
        """The latest window of the test part of a few series and columns, in the units of the data."""
        measuring, content = self.measuring, self.data.content
        test = measuring.test
        latest = {int(owner): place for place, owner in enumerate(test.owners)}
        pairs = [(owner, column) for owner in latest for column in range(content.variates)]
        for owner, column in pairs[-EXAMPLES:] if len(latest) == 1 else pairs[:: content.variates][:EXAMPLES]:
            place = np.array([latest[owner]])
            owners = test.owners[place]
            low, high = intervals.around(forecast[place], spreads[owners])
            lines = {
                "past": test.past[place],
                "actual": test.actual[place],
                "forecast": forecast[place],
                "low": measuring.raised(low, owners),
                "high": measuring.raised(high, owners),
            }
            row = int(test.origins[place[0]])
            yield {
                "series": content.series[owner].name,
                "column": content.layout.targets[column],
                "from": content.frequency.text(content.series[owner].times[row]),
                **{
                    name: [_rounded(value) for value in measuring.in_units(values, owners)[0, :, column]]
                    for name, values in lines.items()
                },
            }

    def baselines(self, *, seconds: float, seed: int) -> list[Baseline]:
        found = []
        for rival, val_forecast in self.measuring.baselines(self.data.windows["train"]):
            figures = self.measuring.figures(val_forecast, rival.values)
            self._rivals[rival.name] = figures, rival.values
            found.append(Baseline(rival.name, self.metric.score(figures["mse"]), rival.seconds, rival.note))
        return found

    @cached_property
    def preparation(self) -> ForecastPreparation:
        """That of the data, with the forecasters of all rows, their weights and the intervals that were found."""
        assert self._answers is not None, "a forecaster is examined before it is shipped"
        measuring, data = self.measuring, self.data.preparation
        intervals, spreads = measuring.intervals(self._answers)
        names = [one.name for one in self.data.content.series]
        return dataclasses.replace(
            data,
            intervals=intervals,
            spreads=dict(zip(names, spreads * measuring.deviation, strict=True)),
            lowest=measuring.floor,
            weights=self.weights,
            local=self._local.models(self.weights),
        )

    @classmethod
    def page(cls, result: FitResult, data: type[Data], attachments: Mapping[int, Shown | None]) -> Page:
        return forecast_page(result)


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _mean(members: list[str]) -> str:
    """What the answer is, in words."""
    titles = [TITLES[name] for name in members]
    return f"the mean of {_listed(titles)}" if len(titles) > 1 else f"those of {titles[0]} alone"


def _rounded(value: float) -> float | None:
    """Short in the file; none for what is missing."""
    return float(f"{value:.6g}") if np.isfinite(value) else None
