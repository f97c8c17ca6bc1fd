"""Regression: a number of each sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from formwright.fitting.data.numbered_series import SeriesWithNumbers
from formwright.fitting.goal import GOALS, Findings, Goal, Page, Run
from formwright.fitting.kind import Data
from formwright.fitting.metric import Metric
from formwright.fitting.records import Baseline, FitResult
from formwright.fitting.shown import Shown

if TYPE_CHECKING:
    from torch import nn

    from formwright.objectives import Objective
    from formwright.training.recipe import Recipe

MOST_ERRORS = 12

FIGURES = {
    "mae": ("mean absolute error", "in the unit of the numbers"),
    "rmse": ("root mean squared error", "in the unit of the numbers; large errors count most"),
    "r2": ("R²", "share of the variance of the test part that is explained: 1 is perfect, the mean alone has 0"),
}


@GOALS.register("regression")
class RegressionGoal(Goal[SeriesWithNumbers]):
    """The number of each sample."""

    name: ClassVar[str] = "regression"
    target: ClassVar[str] = "numbers"
    metric: Metric = Metric(
        "mean absolute error", "mae", lower_is_better=True, tolerance=0.01, relative=True, closeness="1 % of"
    )
    model: ClassVar[str] = "a model that tells a number of {samples}"
    answer: ClassVar[str] = "the number of {asked}"
    figure: ClassVar[str] = "Mean absolute error of the numbers of the test {samples}, in their unit"
    title: ClassVar[str] = "Where it is far off"
    template: ClassVar[str] = "numbers.html.j2"
    tolerance: ClassVar[float | None] = 1e-3

    def objective(self, recipe: Recipe | None = None) -> Objective:
        from formwright.objectives import Regression

        return Regression()

    def distilled(self, recipe: Recipe, teacher: nn.Module) -> Objective:
        from formwright.objectives import ForecastDistillation

        return ForecastDistillation(teacher, self.objective(recipe), weight=0.5)

    def counted(self, outputs: NDArray[np.float32], targets: NDArray[Any]) -> tuple[float, float]:
        errors = np.abs(outputs - targets).astype(np.float64)
        return float(errors.sum()) * self.data.preparation.target_deviation, float(len(targets))

    def examine(self, run: Run, model: nn.Module) -> Findings:
        told = np.concatenate([run(batch.inputs) for batch in self.data.evaluation_batches("test")])
        numbers, true = self.data.preparation.in_units(told), self.data.content.part("test")
        errors = numbers - true
        spread = float(np.square(true - true.mean()).sum())
        names = self.data.names("test")
        farthest = np.argsort(-np.abs(errors), kind="stable")[:MOST_ERRORS]
        squares = float(np.square(errors).sum())
        return Findings(
            test={
                "mae": float(np.abs(errors).mean()),
                "rmse": float(np.sqrt(np.square(errors).mean())),
                **({"r2": 1 - squares / spread} if spread else {}),
            },
            details={
                "errors": [
                    {
                        "series": names[row][1],
                        "index": names[row][0],
                        "true": float(true[row]),
                        "predicted": float(numbers[row]),
                    }
                    for row in farthest
                ]
            },
        )

    def baselines(self, *, seconds: float, seed: int) -> list[Baseline]:
        mean = self.data.content.part("train").mean()
        error = float(np.abs(self.data.content.part("test") - mean).mean())
        return [Baseline("the mean", self.metric.score(error), 0.0, "always answers the mean of the training part")]

    def attachments(self, details: Mapping[str, Any]) -> dict[int, Shown | None]:
        return {error["index"]: self.data.show(error["index"]) for error in details["errors"]}

    @classmethod
    def page(cls, result: FitResult, data: type[Data], attachments: Mapping[int, Shown | None]) -> Page:
        test = result.test
        explained = f"; R² is {test['r2']:.3f}" if "r2" in test else ""
        errors: Sequence[Mapping[str, Any]] = result.details.get("errors", [])
        return Page(
            answer=f"{test['mae']:.4g} is the mean absolute error of the test {data.samples}{explained}",
            figures=[(title, meaning, f"{test[key]:.4g}") for key, (title, meaning) in FIGURES.items() if key in test],
            content={"errors": [(error, attachments.get(error["index"])) for error in errors]},
        )
