"""Forecasting: the next steps of series, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from formwright.deployment.preparations.forecasting import NETWORK, ForecastPreparation
from formwright.errors import UserError
from formwright.fitting.data.series import TimeSeries
from formwright.fitting.forecast_page import forecast_page
from formwright.fitting.goal import GOALS, Findings, Goal, Page, Run
from formwright.fitting.kind import Data, Option
from formwright.fitting.metric import Metric
from formwright.fitting.records import Baseline, FitResult
from formwright.fitting.shown import Shown

if TYPE_CHECKING:
    from torch import nn

    from formwright.fitting.forecast_figures import Examined, Measuring
    from formwright.fitting.mean_forecast import MeanForecast
    from formwright.objectives import Objective
    from formwright.training.recipe import Recipe

Values = NDArray[np.floating]

#: How often intervals are to hold.
COVERAGE = 0.9
SHIPPED = "Shipped model"


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
        self._mean: MeanForecast | None = None

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

    def calibrate(self, run: Run, *, seconds: float, most_bytes: float = np.inf) -> None:
        """Fit local forecasters to the training part, and find the mean that forecasts the validation part best."""
        from formwright.fitting.mean_forecast import MeanForecast

        said = self._forecasts(run, "val", self.measuring.val)
        self._mean = MeanForecast(self.data.content, self.measuring, said, seconds=seconds, most_bytes=most_bytes)

    def called(self, model: str) -> str:
        return model if self._mean is None else self._mean.called(model)

    @property
    def asks_model(self) -> bool:
        return self._mean is None or NETWORK in self._mean.chosen.weights

    def examine(self, run: Run, model: nn.Module) -> Findings:
        from formwright.fitting.forecast_columns import errors_by_column, told_ignored
        from formwright.fitting.forecast_examples import examples
        from formwright.fitting.forecast_figures import by_step, residuals
        from formwright.fitting.mean_forecast import TITLES

        if self._mean is None:
            self.calibrate(run, seconds=np.inf)
        mean, measuring, test = self._mean, self.measuring, self.measuring.test
        assert mean is not None
        mean.said["test"][NETWORK] = self._forecasts(run, "test", test)
        val_forecast, forecast = mean.answer("val"), mean.answer("test")
        own = measuring.figures(val_forecast, forecast)
        intervals, spreads = measuring.intervals({"val": val_forecast})
        for name, values in mean.said["test"].items():
            if list(mean.chosen.weights) != [name]:
                self._rivals[TITLES[name]] = measuring.figures(mean.said["val"][name], values), values
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
                "examples": list(examples(measuring, (forecast, intervals, spreads), best)),
                "columns": errors_by_column(
                    self.data.content.layout.targets,
                    measuring.in_units(test.actual, test.owners),
                    measuring.in_units(forecast, test.owners),
                    None if best is None else measuring.in_units(best[1][1], test.owners),
                    measuring.scale_in_units(test.owners),
                ),
                "told": mean.remarks() + told_ignored(self._ignored(run), self.data.content.layout),
                **mean.details(),
            },
        )

    def _ignored(self, run: Run) -> list[str]:
        """The columns beside those to forecast that change no answer; local forecasters read none of them."""
        from formwright.fitting.forecast_columns import ignored_columns

        layout = self.data.content.layout
        if not self.asks_model:
            return [*layout.past, *layout.known]
        return ignored_columns(run, self.data.windows["val"], layout)

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
        assert self._mean is not None, "a forecaster is examined before it is shipped"
        return self._mean.prepared(self.data.preparation)

    @classmethod
    def page(cls, result: FitResult, data: type[Data], attachments: Mapping[int, Shown | None]) -> Page:
        return forecast_page(result)
