"""Local forecasters beside the network: fitted to what lies before a part, followed through it, and averaged."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from formwright.data.series import SeriesData
from formwright.deployment.local_models.member import Local
from formwright.deployment.local_models.panel import KINDS, LocalModels, fitted, follow, limits, mean_of

if TYPE_CHECKING:
    from formwright.fitting.forecast_figures import Examined

Values = NDArray[np.float64]
Scaled = NDArray[np.floating]

#: What is averaged where validation can tell nothing.
TRUSTED = ("drift", "theta", "damped", "complex", "smoothing")
#: Members of a mean at most, how much better fewer must be than more, and forecasts that tell what is chance.
MOST_MEMBERS, MARGIN, FEWEST_BLOCKS = 6, 0.01, 4
MEAN = "mean"
#: So many values of the validation part at least choose members.
FEWEST_VALUES = 12
#: Demand now and then is tried where at least this share of the values is zero.
ZEROS = 0.25


class LocalAnswers:
    """What local forecasters say of the columns of ``data``, in its units.

    Args:
        data: whose series are forecast.
    """

    def __init__(self, data: SeriesData) -> None:
        self.data = data
        self.kinds = [name for name in KINDS if name != "intermittent" or self._zeros() >= ZEROS]
        self.left_out: list[str] = []
        self.seconds: dict[str, float] = {}

    def _zeros(self) -> float:
        values = np.concatenate([one.values[:, : self.data.variates] for one in self.data.series])
        given = np.isfinite(values)
        return float((values[given] == 0).mean()) if given.any() else 0.0

    @staticmethod
    def trusted(names: Collection[str]) -> list[str]:
        """Whose mean is the default, of members that there was time for."""
        return [name for name in TRUSTED if name in names] or list(names)

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

    def models(
        self, weights: Mapping[str, float], *, place: int = 2, members: Mapping[str, Local] | None = None
    ) -> LocalModels:
        """The members that have a weight, fitted to everything: what is shipped; those of ``members``, if given."""
        data, columns = self.data, self.columns(place)
        ends = np.array([one.times[max(end[place] - 1, 0)] for one, end in zip(data.series, data.ends, strict=True)])
        models = LocalModels.start([one.name for one in data.series], ends, columns, data.frequency.season)
        names = [name for name in KINDS if weights.get(name)]
        models.members = self.fit(place, names) if members is None else {name: members[name] for name in names}
        return models


@dataclass(frozen=True)
class Chosen:
    """Whose mean forecasts the validation part well.

    Attributes:
        weights: of the members of the mean.
        errors: the mean absolute scaled error of each member alone, and of the mean, under :data:`MEAN`.
        reason: why these, in a sentence.
    """

    weights: dict[str, float]
    errors: dict[str, float]
    reason: str


def choose(forecasts: Mapping[str, Scaled], examined: Examined, scale: Scaled, trusted: Sequence[str]) -> Chosen:
    """The mean of the trusted members, or of the best few where these are better by more than chance.

    The best few are the best member alone, the best two, and so on: as many as have the least error together, more
    where that is within a hundredth. Chance is the standard error of the difference between forecasts that do not
    overlap; where there are fewer than four of these, a third of the error. All series count alike.

    Args:
        forecasts: ``(windows, horizon, targets)`` by name.
        examined: the windows with the truth.
        scale: of the errors, ``(series, targets)``; what is undefined does not count.
        trusted: whose mean is the default.

    Source: The M4 Competition (Makridakis, Spiliotis and Assimakopoulos, 2020): plain means of a few classical methods
    are hard to beat, and choosing one by a few forecasts is poor.
    """
    horizon, owners = examined.actual.shape[1], examined.owners
    usable = np.where(np.isfinite(scale) & (scale > 0), scale, np.nan)[owners][:, None]
    order, firsts = np.unique(owners, return_index=True)
    begins = np.zeros(order.max(initial=0) + 1, np.int64)
    begins[order] = examined.origins[firsts]
    turns = (examined.origins - begins[owners]) // horizon
    blocks, of = np.unique(owners * (turns.max(initial=0) + 1) + turns, return_inverse=True)
    owner_of = blocks // (turns.max(initial=0) + 1)
    share = 1 / np.bincount(owner_of)[owner_of]

    def errors(names: Sequence[str]) -> Values:
        """Of each block."""
        values = mean_of(forecasts, dict.fromkeys(names, 1.0))
        sizes = np.abs(values - examined.actual) / usable
        known = np.isfinite(sizes)
        total = np.bincount(of, np.where(known, sizes, 0.0).sum((1, 2)), len(blocks))
        count = np.bincount(of, known.sum((1, 2)), len(blocks))
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    def mean(values: Values) -> float:
        there = np.isfinite(values)
        return float((values * share)[there].sum() / share[there].sum()) if there.any() else np.inf

    alone = {name: mean(errors([name])) for name in forecasts}
    ranked = sorted(alone, key=lambda name: alone[name])[:MOST_MEMBERS]
    nested = [mean(errors(ranked[: count + 1])) for count in range(len(ranked))]
    few = ranked[: 1 + max(place for place, one in enumerate(nested) if one <= (1 + MARGIN) * min(nested))]
    default = [name for name in trusted if name in forecasts] or few
    usual, best = errors(default), errors(few)
    gains = usual - best
    gains = gains[np.isfinite(gains)]
    noise = gains.std(ddof=1) / np.sqrt(len(gains)) if len(gains) >= FEWEST_BLOCKS else mean(usual) / 3
    better = len(gains) > 0 and mean(usual) - mean(best) > noise
    members = few if better else default
    reason = (
        "of all that validation was done with, the best by more than chance"
        if better
        else f"none was better by more than chance in the {len(gains):,} forecasts of validation that do not overlap"
    )
    return Chosen(dict.fromkeys(members, 1 / len(members)), {**alone, MEAN: mean(errors(members))}, reason)
