"""What is measured of forecasts on the test part: of the model and of the baselines, in one way."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from formwright.data.series import SeriesData, fill_forward
from formwright.data.series_batches import Windows
from formwright.data.splits import evenly_spaced
from formwright.inference.intervals import Intervals
from formwright.metrics.forecast_baselines import Forecasts, linear_forecasts, naive, seasonal_naive
from formwright.metrics.forecasting import (
    interval_coverage,
    mean_absolute_error,
    mean_absolute_scaled_error,
    mean_squared_error,
    quantile_loss,
    seasonal_difference,
    symmetric_percentage_error,
)

Values = NDArray[np.floating]

#: Values that are held of a part at once; more windows than hold so many are left out, evenly.
MOST_VALUES = 8_000_000
#: Windows of a series that its figures are computed from at most.
MOST_WINDOWS = 500


@dataclass(frozen=True)
class Examined:
    """Windows of a part: the past that was read, the truth, and of which series they are.

    Attributes:
        indices: of the windows among those of the part.
        past: targets of the look-back, ``(windows, length, targets)``, scaled, gaps filled.
        actual: the true values, ``(windows, horizon, targets)``, scaled, not a number where missing.
        owners: the series of each.
        origins: the row of that series from which on is forecast.
    """

    indices: NDArray[np.int64]
    past: Values
    actual: Values
    owners: NDArray[np.int64]
    origins: NDArray[np.int64]


def examined(windows: Windows) -> Examined:
    """The windows of a part that its figures are computed from: all, or as many as can be held."""
    size = (windows.length + windows.horizon) * windows.variates
    starts = np.flatnonzero(np.diff(windows.owners, prepend=-1, append=-1))
    most = min(MOST_WINDOWS, max(MOST_VALUES // size // max(len(starts) - 1, 1), 1))
    pieces = [evenly_spaced(np.arange(first, last), most) for first, last in itertools.pairwise(starts)]
    indices = np.concatenate(pieces)
    batch = windows.take(indices)
    past = batch.inputs[..., : windows.variates].numpy()
    return Examined(indices, past, batch.targets.numpy(), windows.owners[indices], windows.origins[indices])


class Measuring:
    """Figures of forecasts on the test part of ``data``, intervals fitted on its validation part.

    Errors are of scaled values, except sMAPE, which is of the values themselves.

    Attributes:
        scale: the mean difference of a season within the training part, ``(series, targets)``, scaled.
    """

    def __init__(self, data: SeriesData, val: Examined, test: Examined, coverage: float) -> None:
        self.data, self.val, self.test, self.coverage = data, val, test, coverage
        season = data.frequency.season
        columns = slice(0, data.variates)
        scales = [
            seasonal_difference(
                scaling.apply(np.array(one.values[: ends[0]]))[:, columns], season if ends[0] > season else 1
            )
            for one, ends, scaling in zip(data.series, data.ends, data.scalings, strict=True)
        ]
        self.scale = np.stack(scales)
        self._mean = np.stack([scaling.mean[columns] for scaling in data.scalings])
        self.deviation = np.stack([scaling.deviation[columns] for scaling in data.scalings])
        lowest = np.min([np.nanmin(one.values[:, columns], axis=0, initial=np.inf) for one in data.series], axis=0)
        #: below which no forecast goes: nought, for columns that never are
        self.floor = np.where(lowest >= 0, 0.0, -np.inf)

    def in_units(self, values: Values, owners: NDArray[np.int64]) -> Values:
        """``(windows, steps, targets)`` in the units of the data."""
        return values * self.deviation[owners][:, None] + self._mean[owners][:, None]

    def scale_in_units(self, owners: NDArray[np.int64]) -> Values:
        """What MASE divides the errors of each window by, ``(windows, targets)``, in the units of the data."""
        return (self.scale * self.deviation)[owners]

    def scaled(self, values: Values, owners: NDArray[np.int64]) -> Values:
        """``(windows, steps, targets)`` as models see them."""
        return (values - self._mean[owners][:, None]) / self.deviation[owners][:, None]

    def raised(self, values: Values, owners: NDArray[np.int64]) -> Values:
        """Scaled values, not below nought where the data never is."""
        return np.maximum(values, self.scaled(np.broadcast_to(self.floor, values.shape), owners))

    def intervals(self, forecasts: Mapping[Literal["val", "test"], Values]) -> tuple[Intervals, Values]:
        """Intervals from the errors of forecasts on these parts, and the spread of each column, scaled."""
        errors, columns, starts, fresh = [], [], [], []
        for part, values in forecasts.items():
            chosen: Examined = getattr(self, part)
            off = np.moveaxis(chosen.actual - values, 2, 1)  # (windows, targets, horizon)
            errors.append(off.reshape(-1, off.shape[2]).astype(np.float64))
            columns.append((chosen.owners[:, None] * self.data.variates + np.arange(self.data.variates)).ravel())
            starts.append(np.repeat(chosen.origins, self.data.variates))
            fresh.append(np.full(len(starts[-1]), part == "test"))
        found, spreads = Intervals.fit(
            np.concatenate(errors),
            np.concatenate(columns),
            np.concatenate(starts),
            self.scale.ravel(),
            coverage=self.coverage,
            fresh=np.concatenate(fresh),
        )
        return found, spreads.reshape(self.scale.shape)

    def figures(self, val_forecast: Values, test_forecast: Values) -> dict[str, float]:
        """By name: mse, mae, mase, smape, quantile_loss (both ends of the interval and the middle), coverage."""
        actual, owners = self.test.actual, self.test.owners
        found = {
            "mse": mean_squared_error(test_forecast, actual),
            "mae": mean_absolute_error(test_forecast, actual),
            "mase": mean_absolute_scaled_error(test_forecast, actual, self.scale[owners][:, None]),
            "smape": symmetric_percentage_error(self.in_units(test_forecast, owners), self.in_units(actual, owners)),
        }
        intervals, spreads = self.intervals({"val": val_forecast})
        low, high = (self.raised(end, owners) for end in intervals.around(test_forecast, spreads[owners]))
        tail = (1 - intervals.coverage) / 2
        found["quantile_loss"] = quantile_loss(np.stack([low, test_forecast, high]), actual, [tail, 0.5, 1 - tail])
        found["coverage"] = interval_coverage(low, high, actual)
        return found

    def baselines(self, train: Windows) -> list[tuple[Forecasts, Values]]:
        """Each baseline on the test part, and its forecasts of the validation part."""
        season, horizon = self.data.frequency.season, self.data.horizon
        found = [(naive(self.test.past, horizon), naive(self.val.past, horizon).values)]
        if season > 1:
            note = f"the last {season} steps repeated"
            found.append((Forecasts("seasonal naive", self._seasonal(self.test), 0.0, note), self._seasonal(self.val)))
        trained = examined(train)
        pairs = (trained.past, trained.actual), (self.val.past, self.val.actual)
        both = np.concatenate([self.test.past, self.val.past])
        for name, relative in (("NLinear", True), ("DLinear", False)):
            linear = linear_forecasts(f"{name}, least squares", *pairs, both, relative=relative)
            if linear is None:
                continue
            count = len(self.test.past)
            of_test = Forecasts(linear.name, linear.values[:count], linear.seconds, linear.note)
            found.append((of_test, linear.values[count:]))
        return found

    def _scaled(self, index: int) -> NDArray[np.float64]:
        """The targets of a series, ``(rows, targets)``, with gaps."""
        return self.data.scalings[index].apply(self.data.series[index].values)[:, : self.data.variates]

    def _seasonal(self, chosen: Examined) -> Values:
        values = np.empty_like(chosen.actual)
        for index in np.unique(chosen.owners):
            places = np.flatnonzero(chosen.owners == index)
            filled = fill_forward(self._scaled(int(index)))
            values[places] = seasonal_naive(
                filled, chosen.origins[places], self.data.horizon, self.data.frequency.season
            )
        return values


def by_step(forecast: Values, actual: Values, *, most: int = 120) -> list[tuple[int, float]]:
    """The root of the mean squared error of each step ahead, of at most so many steps: step (from 1), error."""
    steps = evenly_spaced(np.arange(forecast.shape[1]), most)
    off = (forecast[:, steps] - actual[:, steps]) ** 2
    known = np.isfinite(off)
    errors = np.sqrt(np.where(known, off, 0.0).sum((0, 2)) / np.maximum(known.sum((0, 2)), 1))
    counted = np.asarray(known.any((0, 2)))
    return [(int(step) + 1, float(error)) for step, error, one in zip(steps, errors, counted, strict=True) if one]


def residuals(forecast: Values, actual: Values, *, bins: int = 31) -> dict[str, Any]:
    """Bias, spread and a histogram of ``actual - forecast``, and how alike neighbours in time are.

    ``correlation`` is that of the errors of one step ahead of one window with those of the next.
    """
    errors = actual - forecast
    known = errors[np.isfinite(errors)].astype(np.float64)
    spread = float(known.std()) or 1.0
    counts, edges = np.histogram(known.clip(-4 * spread, 4 * spread), bins=bins, range=(-4 * spread, 4 * spread))
    first = errors[:, 0].astype(np.float64)
    now, then = first[:-1].ravel(), first[1:].ravel()
    both = np.isfinite(now) & np.isfinite(then)
    alike = both.sum() > 2 and now[both].std() > 0 and then[both].std() > 0
    return {
        "mean": float(known.mean()),
        "deviation": float(known.std()),
        "counts": counts.tolist(),
        "edges": edges.tolist(),
        "correlation": float(np.corrcoef(now[both], then[both])[0, 1]) if alike else None,
    }
