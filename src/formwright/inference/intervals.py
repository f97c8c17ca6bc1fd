"""Intervals around forecasts, from how far forecasts of the past were off."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formwright.errors import UserError

Values = NDArray[np.floating]

#: How many forecasts the spread of all columns counts for beside those of a column itself.
PRIOR = 2.0
#: From so many forecasts that do not overlap on, each end is found by itself; the errors of fewer count both ways.
BOTH_ENDS = 40
#: Errors within one forecast are alike: they say as much as so many.
WORTH = 2.0


@dataclass(frozen=True)
class Intervals:
    """Ends of intervals ``(horizon, 1)``, as multiples of the spread of a column, from its forecast on.

    The error of a step is divided by the scale of its column and by ``h^k``, the growth with the steps ahead that fits
    the mean errors best (``k`` from 0 to 1); then by how much the column is off more than others, as far as forecasts
    of it can tell: ``(PRIOR + n own) / (PRIOR + n)`` of ``n`` forecasts that do not overlap, others than the one at
    hand. The ends are quantiles of what is left, of all columns together. Where they rest on few forecasts, they are
    stretched like the quantiles of Student's t.

    Attributes:
        low, high: ``(horizon, 1)``, or with one for each column.
        coverage: how often they are to hold.
        forecasts: on how many that do not overlap they rest.
    """

    low: Values
    high: Values
    coverage: float
    forecasts: float

    @property
    def sure(self) -> bool:
        """Whether there are enough forecasts that one of them should miss."""
        return self.forecasts * WORTH * (1 - self.coverage) >= 1

    @staticmethod
    def fit(
        errors: Values,
        columns: NDArray[np.int64],
        starts: NDArray[np.int64],
        scales: Values,
        *,
        coverage: float,
        fresh: NDArray[np.bool_] | None = None,
    ) -> tuple[Intervals, Values]:
        """From errors ``(forecasts, horizon)``, truth less forecast, not a number where missing.

        Args:
            errors: of forecasts that the model had not learned.
            columns: of which column each forecast is.
            starts: the row from which on each was made.
            scales: of the errors of each column.
            coverage: how often the intervals are to hold, between 0 and 1.
            fresh: the forecasts that nothing was chosen by; where there are :data:`BOTH_ENDS` of these, the ends are
                quantiles of their errors alone, as those of the others are too small.

        Returns:
            The intervals, and the spread of each column.

        Raises:
            UserError: ``coverage`` is out of range, or there is no error at all.
        """
        if not 0 < coverage < 1:
            raise UserError(f"The coverage of intervals lies between 0 and 1 (--coverage), got {coverage}.")
        known = np.isfinite(errors)
        if not known.any():
            raise UserError("Intervals need at least one forecast with a true value; give more data.")
        horizon = errors.shape[1]
        usual = np.median(scales[scales > 0]) if (scales > 0).any() else 1.0
        scales = np.where(np.isfinite(scales) & (scales > 0), scales, usual)
        sizes = np.abs(errors) / scales[columns][:, None]
        growth = _growth(sizes, known)
        sizes = np.where(known, sizes / growth, 0.0)
        pooled = sizes.sum() / known.sum() or 1.0
        count = len(scales)
        per_column, off = np.zeros(count), np.zeros(count)
        np.add.at(per_column, columns, known.sum(1))
        np.add.at(off, columns, sizes.sum(1))
        alone = (
            np.array([_apart(starts[columns == one], horizon) for one in range(count)])
            if count < 500
            else (np.minimum(np.bincount(columns, minlength=count), np.maximum(per_column / horizon, 1)))
        )
        own = off / np.maximum(per_column, 1) / pooled
        factors = (PRIOR + alone * own) / (PRIOR + alone)
        # of each forecast, what the others say of its column
        others = np.maximum(per_column[columns] - known.sum(1), 0)
        left = alone[columns] * others / np.maximum(per_column[columns], 1)
        said = (off[columns] - sizes.sum(1)) / np.maximum(others, 1) / pooled
        without = (PRIOR + left * said) / (PRIOR + left)
        counted = known
        if fresh is not None and fresh.sum() >= BOTH_ENDS:
            counted = known & fresh[:, None]
        scaled = (errors / scales[columns][:, None] / growth / without[:, None])[counted]
        total = float(alone[np.unique(columns)].sum())
        tail = (1 - coverage) / 2
        if total >= BOTH_ENDS:
            low, high = _quantile(-scaled, 1 - tail), _quantile(scaled, 1 - tail)
        else:
            low = high = _quantile(np.abs(scaled), coverage)
        stretch = _stretch(max(WORTH * total - 1, 1.0), 1 - tail)
        steps = stretch * growth[:, None]
        return Intervals(-low * steps, high * steps, coverage, total), scales * factors

    def around(self, forecast: Values, spreads: Values) -> tuple[Values, Values]:
        """Lower and upper ends for forecasts ``(..., horizon, columns)``; ``spreads`` are ``(..., columns)``."""
        spread = np.expand_dims(spreads, -2)
        return forecast + self.low * spread, forecast + self.high * spread


def _growth(sizes: Values, known: NDArray[np.bool_]) -> Values:
    """``h^k`` with the ``k`` that fits the mean sizes of the steps best."""
    steps = np.arange(1.0, sizes.shape[1] + 1)
    means = np.where(known, sizes, 0.0).sum(0) / np.maximum(known.sum(0), 1)
    used = means > 0
    if used.sum() < 2:
        return np.ones_like(steps)
    x, y = np.log(steps[used]), np.log(means[used])
    power = float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())
    return np.asarray(steps ** min(max(power, 0.0), 1.0))


def _apart(starts: NDArray[np.int64], horizon: int) -> float:
    """How many forecasts of a column do not overlap."""
    return 0.0 if not len(starts) else min(len(starts), 1 + (starts.max() - starts.min()) / horizon)


def _quantile(values: Values, share: float) -> float:
    """The smallest value that so many lie below, as if there were one more: conformal prediction.

    Source: Conformal Prediction: a Gentle Introduction, arXiv 2107.07511.
    """
    ordered = np.sort(values)
    rank = int(np.ceil((len(ordered) + 1) * share - 1e-9)) - 1
    return float(ordered[min(rank, len(ordered) - 1)])


def _stretch(freedom: float, share: float) -> float:
    """The quantile of Student's t over that of the normal distribution, by its first two terms."""
    z = statistics.NormalDist().inv_cdf(share)
    more: Any = (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    return float(1 + more / z)
