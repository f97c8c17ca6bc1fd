"""How wrong forecasts are. Values that are not a number, on either side, count as missing and are left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from formwright.errors import UserError

Values = NDArray[np.floating]


def _mean(errors: Values) -> float:
    known = np.isfinite(errors)
    return float(errors[known].astype(np.float64).mean()) if known.any() else float("nan")


def _check(forecast: Values, actual: Values) -> None:
    if forecast.shape != actual.shape:
        raise UserError(f"Forecasts {forecast.shape} and true values {actual.shape} differ in shape; give the same.")


def mean_squared_error(forecast: Values, actual: Values) -> float:
    """``mean (y - ŷ)²`` over everything, shapes alike.

    Raises:
        UserError: the shapes differ.
    """
    _check(forecast, actual)
    return _mean((forecast - actual) ** 2)


def mean_absolute_error(forecast: Values, actual: Values) -> float:
    """``mean |y - ŷ|`` over everything, shapes alike.

    Raises:
        UserError: the shapes differ.
    """
    _check(forecast, actual)
    return _mean(np.abs(forecast - actual))


def symmetric_percentage_error(forecast: Values, actual: Values) -> float:
    """sMAPE: ``mean 2 |y - ŷ| / (|y| + |ŷ|)``, 0 to 2; 0 where both are 0.

    Raises:
        UserError: the shapes differ.

    Source: the M4 competition (Makridakis, Spiliotis and Assimakopoulos, 2020), there times 100.
    """
    _check(forecast, actual)
    total = np.abs(forecast) + np.abs(actual)
    return _mean(2 * np.abs(forecast - actual) / np.where(total > 0, total, 1.0))


def seasonal_difference(history: Values, season: int) -> Values:
    """``mean |y_t - y_{t - season}|`` of each column of ``(time, columns)``: what MASE divides by."""
    if len(history) <= season:
        return np.full(history.shape[1], np.nan)
    steps = np.abs(history[season:] - history[:-season])
    known = np.isfinite(steps)
    count = known.sum(0)
    return np.where(count > 0, np.where(known, steps, 0).sum(0) / np.maximum(count, 1), np.nan)


def mean_absolute_scaled_error(forecast: Values, actual: Values, scale: Values) -> float:
    """MASE: ``mean |y - ŷ| / scale``, 1 where no better than repeating the last season within the training part.

    Args:
        forecast: ``(..., columns)``.
        actual: shaped alike.
        scale: :func:`seasonal_difference` of the training part, ``(columns,)`` or shaped to broadcast.

    Raises:
        UserError: the shapes differ.

    Source: Another look at measures of forecast accuracy (Hyndman and Koehler, 2006).
    """
    _check(forecast, actual)
    with np.errstate(divide="ignore", invalid="ignore"):
        return _mean(np.abs(forecast - actual) / np.where(scale > 0, scale, np.nan))


def quantile_loss(forecasts: Values, actual: Values, quantiles: Sequence[float]) -> float:
    """``mean 2 max(q (y - ŷ_q), (q - 1) (y - ŷ_q))`` over the quantiles ``q``; at 0.5 alone it is the absolute error.

    Args:
        forecasts: ``(quantiles, ...)``.
        actual: ``(...)``.
        quantiles: between 0 and 1.

    Raises:
        UserError: a quantile is not between 0 and 1, or the shapes do not fit.
    """
    if forecasts.shape[0] != len(quantiles) or any(not 0 < q < 1 for q in quantiles):
        raise UserError(f"One forecast for each quantile between 0 and 1 is expected, got {list(quantiles)}.")
    losses = []
    for quantile, forecast in zip(quantiles, forecasts, strict=True):
        _check(forecast, actual)
        error = actual - forecast
        losses.append(_mean(2 * np.maximum(quantile * error, (quantile - 1) * error)))
    return float(np.mean(losses))


def interval_coverage(lower: Values, upper: Values, actual: Values) -> float:
    """The share of the true values that lies within ``[lower, upper]``, shapes alike."""
    _check(lower, actual)
    _check(upper, actual)
    known = np.isfinite(actual) & np.isfinite(lower) & np.isfinite(upper)
    return float(((actual >= lower) & (actual <= upper))[known].mean()) if known.any() else float("nan")
