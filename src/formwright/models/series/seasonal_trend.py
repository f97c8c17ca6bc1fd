"""A forecaster around another one: the trend of a window is carried on by a linear map, the rest by the other model.

Source: what Transformers in Time Series: A Survey, arXiv 2202.07125, tries with plain Transformers; the decomposition
is Autoformer's, arXiv 2106.13008.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.errors import UserError


class SeasonalTrend(nn.Module):
    """``y = model(x - trend) + W trend + b``, the trend being a moving average of the window, variate by variate.

    Args:
        model: forecasts ``(batch, time, variates)`` by ``(batch, horizon, variates)``.
        length: steps of the window.
        horizon: steps to forecast.
        kernel: steps of the moving average, odd; the ends of the window are repeated beyond it.

    Raises:
        UserError: ``kernel`` is even.
    """

    def __init__(self, model: nn.Module, *, length: int, horizon: int, kernel: int = 25) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise UserError(f"A moving average has a middle, so its kernel is odd; got {kernel}.")
        self.model, self.kernel = model, kernel
        self.linear = nn.Linear(length, horizon)
        nn.init.constant_(self.linear.weight, 1 / length)  # it begins as the mean of the window
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Float[Tensor, "batch time variates"]) -> Float[Tensor, "batch horizon variates"]:
        side = self.kernel // 2
        series = F.pad(x.transpose(1, 2), (side, side), mode="replicate")
        trend = F.avg_pool1d(series, self.kernel, stride=1)
        return self.model(x - trend.transpose(1, 2)) + self.linear(trend).transpose(1, 2)
