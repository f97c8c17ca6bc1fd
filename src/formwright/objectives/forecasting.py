"""Squared error of forecasts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from formwright.batch import Batch, call
from formwright.errors import UserError
from formwright.nn.taps import read_taps
from formwright.objectives.objective import Objective, Outcome


class Forecasting(Objective):
    """``mean (y - model(x))²`` over steps and variates, ``(batch, horizon, variates)``; missing values are left out.

    Counted as ``loss``; a target that is not a number is missing.

    Raises:
        UserError: targets and forecasts differ in shape.
    """

    def forward(self, model: nn.Module, batch: Batch, progress: float) -> Outcome:
        forecast: Tensor = call(model, batch.inputs)
        if forecast.shape != batch.targets.shape:
            raise UserError(
                f"The model forecasts {tuple(forecast.shape)} and {tuple(batch.targets.shape)} came; build it for "
                "this horizon and these variates."
            )
        there = torch.isfinite(batch.targets)
        error = torch.where(there, forecast - torch.where(there, batch.targets, 0.0), 0.0)
        count = int(there.sum())
        total = error.square().sum()
        return Outcome(total / max(count, 1), sums={"loss": total.detach()}, counts={"loss": count})


class ForecastDistillation(Objective):
    """``(1 - w) base + w mean (teacher(x) - model(x))²``: the teacher's forecasts are followed beside the true values.

    The teacher is in eval mode, belongs to whoever made it, and is neither trained nor saved.

    Args:
        teacher: forecasts the same horizon and variates.
        base: the objective on the true values.
        weight: the ``w`` above, 0 to 1.

    Raises:
        UserError: ``weight`` is out of range.
    """

    teacher: nn.Module

    def __init__(self, teacher: nn.Module, base: Objective, *, weight: float = 0.5) -> None:
        super().__init__()
        if not 0 <= weight <= 1:
            raise UserError(f"The weight of a distillation lies between 0 and 1, got {weight}.")
        self.__dict__["teacher"] = teacher.eval()  # not a submodule: nobody trains or saves it through the objective
        self.base = base
        self.weight = weight

    def forward(self, model: nn.Module, batch: Batch, progress: float) -> Outcome:
        with read_taps(model, (":input", ":output")) as values:
            outcome = self.base(model, batch, progress)
        with torch.no_grad():
            teacher: Tensor = call(self.teacher, values[":input"])
        followed = (values[":output"] - teacher).square().mean()
        loss = (1 - self.weight) * outcome.loss + self.weight * followed
        return Outcome(loss, outcome.sums, outcome.counts)
