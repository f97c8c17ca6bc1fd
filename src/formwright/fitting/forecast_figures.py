"""What is measured of forecasts on the test part: of the model and of the baselines, in one way."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formwright.data.series import Part, SeriesData, fill_forward
from formwright.data.series_batches import Windows
from formwright.data.splits import evenly_spaced
from formwright.errors import UserError
from formwright.inference.conformal import ConformalIntervals
from formwright.metrics.exponential_smoothing import FITTED_ROWS, Smoothing, follow
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
#: Columns that exponential smoothing is fitted to at most.
MOST_SMOOTHED = 64


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
    indices = evenly_spaced(np.arange(len(windows)), max(MOST_VALUES // size, 100))
    batch = windows.take(indices)
    past = batch.inputs[..., : windows.variates].numpy()
    return Examined(indices, past, batch.targets.numpy(), windows.owners[indices], windows.origins[indices])


class Measuring:
    """Figures of forecasts on the test part of ``data``, intervals fitted on its validation part.

    Errors are of scaled values, except sMAPE, which is of the values themselves.
    """

    def __init__(self, data: SeriesData, val: Examined, test: Examined, coverage: float) -> None:
        self.data, self.val, self.test, self.coverage = data, val, test, coverage
        season = data.frequency.season
        columns = slice(0, data.variates)
        scales = [
            seasonal_difference(
                scaling.apply(np.array(one.values[: data.training_end(one)]))[:, columns],
                season if data.training_end(one) > season else 1,
            )
            for one, scaling in zip(data.series, data.scalings, strict=True)
        ]
        self._scale = np.stack(scales)
        self._mean = np.stack([scaling.mean[columns] for scaling in data.scalings])
        self._deviation = np.stack([scaling.deviation[columns] for scaling in data.scalings])

    def in_units(self, values: Values, owners: NDArray[np.int64]) -> Values:
        """``(windows, steps, targets)`` in the units of the data."""
        return values * self._deviation[owners][:, None] + self._mean[owners][:, None]

    def scale_in_units(self, owners: NDArray[np.int64]) -> Values:
        """What MASE divides the errors of each window by, ``(windows, targets)``, in the units of the data."""
        return (self._scale * self._deviation)[owners]

    def intervals(self, val_forecast: Values) -> ConformalIntervals:
        """Conformal intervals; with the largest coverage that the validation part allows, if that is less."""
        count = int(np.isfinite(self.val.actual).sum(0).min())
        coverage = min(self.coverage, np.floor(100 * count / (count + 1)) / 100) if count else self.coverage
        return ConformalIntervals.fit(val_forecast, self.val.actual, coverage=float(coverage))

    def figures(self, val_forecast: Values, test_forecast: Values) -> dict[str, float]:
        """By name: mse, mae, mase, smape, quantile_loss (both ends of the interval and the middle), coverage."""
        actual, owners = self.test.actual, self.test.owners
        found = {
            "mse": mean_squared_error(test_forecast, actual),
            "mae": mean_absolute_error(test_forecast, actual),
            "mase": mean_absolute_scaled_error(test_forecast, actual, self._scale[owners][:, None]),
            "smape": symmetric_percentage_error(self.in_units(test_forecast, owners), self.in_units(actual, owners)),
        }
        try:
            intervals = self.intervals(val_forecast)
        except UserError:  # a validation part without values for some step: no interval, and the figures say so
            return {**found, "quantile_loss": float("nan"), "coverage": float("nan")}
        low, high = intervals.around(test_forecast)
        tail = (1 - intervals.coverage) / 2
        found["quantile_loss"] = quantile_loss(np.stack([low, test_forecast, high]), actual, [tail, 0.5, 1 - tail])
        found["coverage"] = interval_coverage(low, high, actual)
        return found

    def baselines(self, train: Windows, *, seconds: float) -> list[tuple[Forecasts, Values]]:
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
        smoothed = self._smoothing(seconds)
        return found if smoothed is None else [*found, smoothed]

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

    def _smoothing(self, seconds: float) -> tuple[Forecasts, Values] | None:
        """Exponential smoothing of each column, if the first of them lets hope that there is time for all."""
        data, started = self.data, time.perf_counter()
        total = len(data.series) * data.variates
        if total > MOST_SMOOTHED:
            return None
        held_out: list[tuple[Part, Examined]] = [("val", self.val), ("test", self.test)]
        outputs: dict[Part, Values] = {part: np.full(chosen.actual.shape, np.nan) for part, chosen in held_out}
        fitted = 0
        for index, one in enumerate(data.series):
            scaled = self._scaled(index)
            end = data.training_end(one)
            begin = max(end - FITTED_ROWS, 0)
            history = fill_forward(scaled[begin:end])
            smoothings = []
            for column in range(data.variates):
                try:
                    smoothings.append(Smoothing.fit(history[:, column], data.frequency.season))
                except (UserError, ValueError, np.linalg.LinAlgError):
                    return None
                fitted += 1
                if (time.perf_counter() - started) / fitted * total > seconds:
                    return None
            for part, chosen in held_out:
                places = np.flatnonzero(chosen.owners == index)
                values = follow(smoothings, scaled[begin:], chosen.origins[places] - begin, data.horizon)
                outputs[part][places] = values
        taken = time.perf_counter() - started
        note = f"parameters fitted on the last {FITTED_ROWS:,} training rows at most"
        return Forecasts("exponential smoothing", outputs["test"], taken, note), outputs["val"]


def by_step(forecast: Values, actual: Values, *, most: int = 120) -> list[tuple[int, float]]:
    """The root of the mean squared error of each step ahead, of at most so many steps: step (from 1), error."""
    steps = evenly_spaced(np.arange(forecast.shape[1]), most)
    errors = np.sqrt(np.nanmean((forecast[:, steps] - actual[:, steps]) ** 2, axis=(0, 2)))
    return [(int(step) + 1, float(error)) for step, error in zip(steps, errors, strict=True)]


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
