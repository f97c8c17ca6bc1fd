"""Local forecasters beside the network: fitted to what lies before a part, followed through it, and averaged."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from formwright.data.series import SeriesData
from formwright.deployment.local_models.member import Local
from formwright.deployment.local_models.panel import KINDS, LocalModels, fitted, follow, limits, mean_of

Values = NDArray[np.float64]

#: What is averaged where validation can tell nothing.
TRUSTED = ("smoothing", "theta")
#: Members of a mean at most, and how much better fewer must be than more.
MOST_MEMBERS, MARGIN = 6, 0.01
#: So many values of the validation part at least choose members.
FEWEST_VALUES = 12
#: Demand now and then is tried where at least this share of the values is zero.
ZEROS = 0.25


class LocalAnswers:
    """What local forecasters say of the columns of ``data``, in its units.

    Class attributes:
        CHEAP: kinds that stand beside the result in any case.

    Args:
        data: whose series are forecast.
    """

    CHEAP = ("last_season", "drift", "theta", "damped", "smoothing")

    def __init__(self, data: SeriesData) -> None:
        self.data = data
        self.kinds = [name for name in KINDS if name != "intermittent" or self._zeros() >= ZEROS]
        self.left_out: list[str] = []
        self.seconds: dict[str, float] = {}

    def _zeros(self) -> float:
        values = np.concatenate([one.values[:, : self.data.variates] for one in self.data.series])
        given = np.isfinite(values)
        return float((values[given] == 0).mean()) if given.any() else 0.0

    @property
    def telling(self) -> bool:
        """Whether validation says enough to choose by: two seasons are before it, and a dozen values in it."""
        used = [ends for ends in self.data.ends if ends[0] < ends[2]]
        values = sum(ends[1] - ends[0] for ends in used) * self.data.variates
        rows = sorted(ends[0] for ends in used)[len(used) // 2]
        return values >= FEWEST_VALUES and rows > max(2 * self.data.frequency.season, 3)

    def columns(self, place: int) -> list[Values]:
        """Of each series each column up to the end of its training (0), validation (1) or test part (2)."""
        found = []
        for one, ends in zip(self.data.series, self.data.ends, strict=True):
            end = ends[place]
            for column in range(self.data.variates):
                values = one.values[:end, column]
                first = np.flatnonzero(np.isfinite(values))
                found.append(np.array(values[first[0] if len(first) else end :]))
        return found

    def fit(self, place: int, kinds: Sequence[str], *, seconds: float = float("inf")) -> dict[str, Local]:
        """Forecasters of all columns up to a part's end; the dearer ones as long as their time will not be over.

        How long one will take is told by a few columns.
        """
        columns, found = self.columns(place), {}
        season, left = self.data.frequency.season, seconds
        for name in kinds:
            started = time.perf_counter()
            few = columns[:: max(len(columns) // 50, 1)]
            if len(few) < len(columns) and np.isfinite(seconds):
                fitted(KINDS[name], few, season)
                needed = (time.perf_counter() - started) / len(few) * len(columns)
                if needed > left:
                    self.left_out.append(name)
                    continue
            found[name] = fitted(KINDS[name], columns, season)
            self.seconds[name] = time.perf_counter() - started
            left -= self.seconds[name]
        return found

    def forecasts(
        self, members: Mapping[str, Local], place: int, owners: NDArray[np.int64], origins: NDArray[np.int64]
    ) -> dict[str, Values]:
        """What members that know all up to a part's end say at origins after it, ``(windows, horizon, targets)``.

        Args:
            owners: the series of each window.
            origins: the row of it from which on is forecast, in rising order for each series.
        """
        data, variates = self.data, self.data.variates
        windows = [np.flatnonzero(owners == index) for index in range(len(data.series))]
        rows, places = [], []
        for one, ends, own in zip(data.series, data.ends, windows, strict=True):
            after = origins[own] - ends[place]
            for column in range(variates):
                rows.append(one.values[ends[place] : ends[2], column])
                places.append(after)
        lowest, highest = self._limits(place)
        found = {}
        for name, member in members.items():
            values = np.full((len(owners), data.horizon, variates), np.nan)
            for column, forecast in enumerate(follow(member, rows, places, data.horizon)):
                index, target = divmod(column, variates)
                values[windows[index], :, target] = forecast.clip(lowest[column], highest[column])
            found[name] = values
        return found

    def _limits(self, place: int) -> tuple[Values, Values]:
        return limits(self.columns(place))

    def models(self, weights: Mapping[str, float], *, place: int = 2) -> LocalModels:
        """The members that have a weight, fitted to everything: what is shipped."""
        data, columns = self.data, self.columns(place)
        ends = np.array([one.times[max(end[place] - 1, 0)] for one, end in zip(data.series, data.ends, strict=True)])
        models = LocalModels.start([one.name for one in data.series], ends, columns, data.frequency.season)
        models.members = self.fit(place, [name for name in KINDS if weights.get(name)])
        return models


def weights_of(errors: Mapping[str, float]) -> dict[str, float]:
    """Equal weights for the best few: as many as have the least error together.

    Args:
        errors: of the mean of the best one, two, three and so on, by the name of the one that comes last.
    """
    names = list(errors)
    least = min(errors.values())
    count = max(place for place, name in enumerate(names, start=1) if errors[name] <= (1 + MARGIN) * least)
    return dict.fromkeys(names[:count], 1 / count)


def nested_errors(
    forecasts: Mapping[str, Values], actual: Values, scale: Values, owners: NDArray[np.int64]
) -> dict[str, float]:
    """The mean absolute scaled error of the mean of the best one, two and so on, best first; series count alike.

    Args:
        forecasts: ``(windows, horizon, targets)`` by name.
        actual: the truth, not a number where missing.
        scale: of the errors of each window, ``(windows, targets)``; what is undefined does not count.
        owners: the series of each window.
    """
    usable = np.isfinite(scale) & (scale > 0)
    scale = np.where(usable, scale, np.nan)[:, None]
    share = (1 / np.bincount(owners)[owners])[:, None, None]

    def error(values: Values) -> float:
        with np.errstate(all="ignore"):
            sizes = np.abs(values - actual) / scale
        shares = np.where(np.isfinite(sizes), share, 0.0)
        return float(np.nansum(sizes * shares) / shares.sum()) if shares.any() else np.inf

    alone = {name: error(values) for name, values in forecasts.items()}
    order = sorted(alone, key=lambda name: alone[name])[:MOST_MEMBERS]
    return {name: error(mean_of(forecasts, dict.fromkeys(order[: place + 1], 1.0))) for place, name in enumerate(order)}
