"""Intervals around forecasts that hold as often as they say: split conformal prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formwright.errors import UserError

Values = NDArray[np.floating]


@dataclass(frozen=True)
class ConformalIntervals:
    """Half-widths of intervals, ``(horizon, columns)``, one for each step ahead and each column.

    They hold with probability ``coverage`` if the errors to come are exchangeable with those that they were fitted on:
    exactly so, on average, whatever the model and the distribution. Errors of series drift, so the coverage that was
    measured on later data belongs beside the one that was asked for.

    Source: Conformal Prediction: a Gentle Introduction, arXiv 2107.07511; a half-width for each step ahead: Conformal
    Time-Series Forecasting (Stankevičiūtė, Alaa and van der Schaar, 2021).
    """

    half_width: Values
    coverage: float

    @staticmethod
    def fit(forecast: Values, actual: Values, *, coverage: float = 0.9) -> ConformalIntervals:
        """The ``ceil((n + 1) coverage)``-th smallest of ``n`` absolute errors, for each step and column.

        Args:
            forecast: ``(windows, horizon, columns)`` of windows that the model was not trained on.
            actual: the true values, shaped alike, not a number where missing.
            coverage: how often the interval is to hold, between 0 and 1.

        Raises:
            UserError: ``coverage`` is out of range, or there are too few windows for it.
        """
        if not 0 < coverage < 1:
            raise UserError(f"The coverage of intervals lies between 0 and 1 (--coverage), got {coverage}.")
        errors = np.abs(forecast - actual)
        count = np.isfinite(errors).sum(0)
        least = int(np.ceil(coverage / (1 - coverage) - 1e-9))
        if (count < least).any():
            raise UserError(
                f"Intervals that hold with {coverage:.0%} need at least {least} windows for validation with values for "
                f"each step ahead, and there are {int(count.min())}; ask for less coverage, or give more data."
            )
        ordered = np.sort(np.where(np.isfinite(errors), errors, np.inf), axis=0)
        rank = np.ceil((count + 1) * coverage - 1e-9).astype(np.int64) - 1
        return ConformalIntervals(np.take_along_axis(ordered, rank[None], axis=0)[0], coverage)

    def around(self, forecast: Values) -> tuple[Values, Values]:
        """Lower and upper ends for forecasts ``(..., horizon, columns)``."""
        return forecast - self.half_width, forecast + self.half_width

    def to_dict(self) -> dict[str, Any]:
        return {"coverage": self.coverage, "half_width": self.half_width.tolist()}

    @staticmethod
    def from_dict(record: dict[str, Any]) -> ConformalIntervals:
        return ConformalIntervals(np.asarray(record["half_width"], np.float64), float(record["coverage"]))
