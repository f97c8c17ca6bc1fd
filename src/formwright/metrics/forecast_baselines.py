"""Forecasts that every model has to beat: the last value, the last season, a linear map of the window."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.floating]

#: Strengths of the ridge that the linear baselines choose from, on the validation part.
_RIDGES = (1e-4, 1e-2, 1.0, 100.0)
#: Rows of the normal equations that are formed at once.
_CHUNK = 4096


@dataclass(frozen=True)
class Forecasts:
    """A baseline's forecasts ``(windows, horizon, columns)``, the seconds it took, and how it was made."""

    name: str
    values: Values
    seconds: float
    note: str


def naive(inputs: Values, horizon: int) -> Forecasts:
    """The last value of each window ``(windows, length, columns)``, for every step."""
    return Forecasts("naive", np.repeat(inputs[:, -1:], horizon, axis=1), 0.0, "the last value, for every step")


def seasonal_naive(values: Values, origins: NDArray[np.int64], horizon: int, season: int) -> Values:
    """What was one season before each step, ``(origins, horizon, columns)``, in the latest season before the origin.

    Args:
        values: ``(rows, columns)`` without gaps.
        origins: rows from which on is forecast; where there was no whole season before, the first value stands for it.
        horizon: steps to forecast.
        season: rows of a season.
    """
    places = origins[:, None] - season + np.arange(horizon) % season
    return values[np.maximum(places, 0)]


def linear_forecasts(
    name: str,
    train: tuple[Values, Values],
    val: tuple[Values, Values],
    test: Values,
    *,
    relative: bool,
) -> Forecasts | None:
    """One linear map from a window to its future, the same for all columns, by least squares with a ridge.

    With ``relative`` the last value is taken out of the window and put back: NLinear. Without, it is DLinear: its two
    maps of trend and rest add up to one of the window, so that least squares finds both at once. The ridge is the one
    of four with the least error on the validation part. Each pair is windows ``(windows, length, columns)`` and what
    came ``(windows, horizon, columns)``, not a number where missing; none if nothing came without a gap.

    Source: Are Transformers Effective for Time Series Forecasting?, arXiv 2205.13504.
    """
    start = time.perf_counter()
    past, future = (_per_column(part) for part in train)
    squares: Any = 0.0
    products: Any = 0.0
    for begin in range(0, len(past), _CHUNK):
        features, wanted = _features(past[begin : begin + _CHUNK], relative), future[begin : begin + _CHUNK]
        if relative:
            wanted = wanted - past[begin : begin + _CHUNK, -1:]
        whole = np.isfinite(wanted).all(1)
        features, wanted = features[whole], wanted[whole]
        squares = squares + features.T @ features
        products = products + features.T @ wanted
    if not np.any(squares):
        return None
    scale = float(np.trace(squares)) / len(squares)
    best, least = np.zeros_like(products), np.inf
    for ridge in _RIDGES:
        weights = np.linalg.solve(squares + ridge * 1e-4 * scale * np.eye(len(squares)), products)
        error = float(np.nanmean((_linear(val[0], weights, relative) - val[1]) ** 2))
        if error < least:
            best, least = weights, error
    values = _linear(test, best, relative)
    return Forecasts(name, values, time.perf_counter() - start, "least squares with a ridge, one map for all columns")


def _per_column(windows: Values) -> Values:
    """``(windows * columns, steps)``, float64."""
    return np.moveaxis(windows, 2, 1).reshape(-1, windows.shape[1]).astype(np.float64)


def _features(past: Values, relative: bool) -> Values:
    """What the map is applied to: the window (less its last value), and a one."""
    values = past - past[:, -1:] if relative else past
    return np.concatenate([values, np.ones((len(past), 1))], axis=1)


def _linear(inputs: Values, weights: Values, relative: bool) -> Values:
    count, _, columns = inputs.shape
    past = _per_column(inputs)
    forecast = _features(past, relative) @ weights
    if relative:
        forecast = forecast + past[:, -1:]
    return np.moveaxis(forecast.reshape(count, columns, -1), 1, 2)
