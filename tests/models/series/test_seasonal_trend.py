"""The trend is carried on by a linear map and the rest by the model within."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.models.series.seasonal_trend import SeasonalTrend


class Recorder(nn.Module):
    """Forecasts zeros, and keeps what it was given."""

    def forward(self, x: Tensor) -> Tensor:
        self.seen = x
        return x.new_zeros(x.shape[0], 4, x.shape[2])


def test_a_constant_window_is_all_trend_and_goes_on() -> None:
    model = SeasonalTrend(Recorder(), length=12, horizon=4, kernel=5)
    level = torch.tensor([2.0, -3.0]).expand(1, 12, 2)
    torch.testing.assert_close(model(level), level[:, :4])
    torch.testing.assert_close(model.model.seen, torch.zeros(1, 12, 2))


def test_the_model_within_sees_what_the_moving_average_leaves() -> None:
    model = SeasonalTrend(Recorder(), length=12, horizon=4, kernel=3)
    x = torch.randn(2, 12, 1)
    model(x)
    average = (x[:, :-2] + x[:, 1:-1] + x[:, 2:]) / 3
    torch.testing.assert_close(model.model.seen[:, 1:-1], x[:, 1:-1] - average)
    torch.testing.assert_close(model.model.seen[:, 0], x[:, 0] - (2 * x[:, 0] + x[:, 1]) / 3)


def test_an_even_average_has_no_middle() -> None:
    with pytest.raises(UserError, match="odd; got 24"):
        SeasonalTrend(Recorder(), length=12, horizon=4, kernel=24)
