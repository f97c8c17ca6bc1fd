"""Squared errors that leave out what is missing, and a teacher's forecasts beside the true values."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from formwright.batch import Batch
from formwright.errors import UserError
from formwright.objectives import ForecastDistillation, Forecasting, means


class Constant(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(float(value)))

    def forward(self, x):
        return self.value.expand(len(x), 2, 1)


def batch(*rows):
    return Batch(torch.zeros(len(rows), 3, 1), torch.tensor(rows)[..., None])


def test_missing_values_are_left_out_of_loss_and_gradient():
    model, nan = Constant(1.0), float("nan")
    outcome = Forecasting()(model, batch([3.0, nan], [nan, 0.0]), 0.0)
    assert float(outcome.loss) == pytest.approx((4 + 1) / 2)
    outcome.loss.backward()
    assert float(model.value.grad) == pytest.approx((2 * -2 + 2 * 1) / 2)
    nothing = Forecasting()(model, batch([nan, nan]), 0.0)
    assert float(nothing.loss) == 0.0


def test_batches_average_by_what_they_hold():
    model, nan = Constant(0.0), float("nan")
    outcomes = [Forecasting()(model, batch([1.0, 1.0]), 0.0), Forecasting()(model, batch([3.0, nan]), 0.0)]
    assert means(outcomes)["loss"] == pytest.approx((1 + 1 + 9) / 3)


def test_a_teacher_is_followed_and_not_trained():
    model, teacher = Constant(0.0), Constant(2.0)
    objective = ForecastDistillation(teacher, Forecasting(), weight=0.25)
    outcome = objective(model, batch([1.0, 1.0]), 0.0)
    assert float(outcome.loss) == pytest.approx(0.75 * 1 + 0.25 * 4)
    outcome.loss.backward()
    assert teacher.value.grad is None
    assert not list(objective.parameters())


def test_other_shapes_and_weights_are_refused():
    with pytest.raises(UserError, match="horizon"):
        Forecasting()(Constant(0.0), batch([1.0, 1.0, 1.0]), 0.0)
    with pytest.raises(UserError, match="between 0 and 1"):
        ForecastDistillation(Constant(0.0), Forecasting(), weight=2)
