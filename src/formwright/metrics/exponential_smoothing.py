"""Exponential smoothing as a baseline: fitted once on the training part, then followed through what comes after it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from formwright.errors import UserError

Values = NDArray[np.float64]

#: The latest rows of the training part that parameters are fitted on, and the longest season: longer takes minutes.
FITTED_ROWS, LONGEST_SEASON = 1500, 60


@dataclass(frozen=True)
class Smoothing:
    """Additive exponential smoothing with a damped trend: parameters, and the state before the first row.

    With the error ``e`` of the forecast ``level + damping * trend + season``: ``level' = level + damping * trend +
    alpha e``, ``trend' = damping * trend + beta e``, ``season' = season + gamma e``.

    Source: Forecasting: Principles and Practice (Hyndman and Athanasopoulos), ETS(A, Ad, A).
    """

    alpha: float
    beta: float
    gamma: float
    damping: float
    level: float
    trend: float
    season: Values

    @staticmethod
    def fit(values: Values, season: int) -> Smoothing:
        """By maximum likelihood (statsmodels) on ``(rows,)`` without gaps; with a season if two of them fit into it.

        Raises:
            UserError: there are fewer than ten rows.
        """
        from statsmodels.tsa.exponential_smoothing.ets import ETSModel

        if len(values) < 10:
            raise UserError(f"Exponential smoothing needs at least 10 rows to fit its parameters, got {len(values)}.")
        seasonal = 1 < season <= LONGEST_SEASON and len(values) >= 2 * season
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it may stop before it converges, and say so
            found = ETSModel(
                np.asarray(values, np.float64),
                trend="add",
                damped_trend=True,
                seasonal="add" if seasonal else None,
                seasonal_periods=season if seasonal else None,
                initialization_method="heuristic",
            ).fit(disp=False, maxiter=100)
        return Smoothing(
            alpha=float(found.smoothing_level),
            beta=float(found.smoothing_trend),
            gamma=float(found.smoothing_seasonal) if seasonal else 0.0,
            damping=float(found.damping_trend),
            level=float(found.initial_level),
            trend=float(found.initial_trend),
            season=np.asarray(found.initial_seasonal, np.float64) if seasonal else np.zeros(1),
        )


def follow(smoothings: Sequence[Smoothing], values: Values, origins: NDArray[np.int64], horizon: int) -> Values:
    """Forecasts of the ``horizon`` rows from each origin on, each made from the rows before it alone.

    Args:
        smoothings: one a column, all with a season of the same length.
        values: ``(rows, columns)`` from the row on that they start at; not a number where missing, which changes no
            state.
        origins: increasing row numbers.
        horizon: steps to forecast.

    Returns:
        ``(origins, horizon, columns)``.
    """
    alpha, beta, gamma, damping = (
        np.array([getattr(one, name) for one in smoothings]) for name in ("alpha", "beta", "gamma", "damping")
    )
    level, trend = np.array([one.level for one in smoothings]), np.array([one.trend for one in smoothings])
    season = np.stack([one.season for one in smoothings], axis=1)
    period = len(season)
    damped = np.cumsum(damping ** np.arange(1, horizon + 1)[:, None], axis=0)
    steps = np.arange(horizon)
    forecasts = np.empty((len(origins), horizon, len(smoothings)))
    wanted = {int(origin): index for index, origin in enumerate(origins)}
    for row in range(int(origins[-1]) + 1 if len(origins) else 0):
        if row in wanted:
            forecasts[wanted[row]] = level + damped * trend + season[(row + steps) % period]
        if row >= len(values):
            break
        expected = level + damping * trend
        error = values[row] - expected - season[row % period]
        error = np.where(np.isfinite(error), error, 0.0)
        level, trend = expected + alpha * error, damping * trend + beta * error
        season[row % period] += gamma * error
    return forecasts
