"""Forecasts without a search: the last season, a drift, the mean, and demand that comes now and then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from formwright.deployment.local_models.member import Local, Values, from_the_first, last_seasons, search


@dataclass
class LastSeason(Local):
    """The latest season again and again; the latest value where there is none: seasonal naive."""

    title: ClassVar[str] = "last season"
    seasonal: ClassVar[tuple[str, ...]] = ("season",)

    @classmethod
    def fit(cls, values: Values, season: int) -> Self:
        return cls({"season": last_seasons(values, max(season, 1))})

    def advance(self, row: Values) -> None:
        self.arrays["season"][0] = np.where(np.isfinite(row), row, self.arrays["season"][0])
        self.turn()

    def forecast(self, steps: int) -> Values:
        season = self.arrays["season"]
        return np.array(season[np.arange(steps) % len(season)])


@dataclass
class SeasonalDrift(LastSeason):
    """The latest season, moved by the mean change from row to row of the whole column."""

    title: ClassVar[str] = "last season with drift"

    @classmethod
    def fit(cls, values: Values, season: int) -> Self:
        moved = from_the_first(values)
        rows = np.isfinite(moved).sum(0)
        last = np.take_along_axis(moved, np.maximum(rows - 1, 0)[None], axis=0)[0]
        drift = (last - moved[0]) / np.maximum(rows - 1, 1)
        # as far as whole seasons reach, so that a season is no drift
        whole = (rows - 1) // max(season, 1) * max(season, 1)
        before = np.take_along_axis(moved, np.maximum(rows - 1 - whole, 0)[None], axis=0)[0]
        drift = np.where(whole > 0, (last - before) / np.maximum(whole, 1), drift)
        return cls({**super().fit(values, season).arrays, "drift": drift})

    def advance(self, row: Values) -> None:
        self.arrays["season"][0] += len(self.arrays["season"]) * self.arrays["drift"]  # unless a value came
        super().advance(row)

    def forecast(self, steps: int) -> Values:
        season = len(self.arrays["season"])
        return super().forecast(steps) + (1 + np.arange(steps) // season)[:, None] * season * self.arrays["drift"]


@dataclass
class SeasonalMean(LastSeason):
    """The mean of the values at each place of the season, old ones forgotten: each season counts half as much again.

    ``s' = s + share (y - s)`` with the share of Brown's smoothing, :data:`SHARE`; for counts, which repeat poorly.
    """

    title: ClassVar[str] = "mean season"
    SHARE: ClassVar[float] = 0.2

    @classmethod
    def fit(cls, values: Values, season: int) -> Self:
        season = max(season, 1)
        level = np.nanmean(values, axis=0) if len(values) else np.zeros(values.shape[1])
        member = cls({"season": np.repeat(level[None], season, axis=0)})
        for row in values:
            member.advance(row)
        return member

    def advance(self, row: Values) -> None:
        season = self.arrays["season"]
        season[0] += np.where(np.isfinite(row), self.SHARE * (row - season[0]), 0.0)
        self.turn()


@dataclass
class Intermittent(Local):
    """How likely a demand is times how large: both smoothed, the former in each row, the latter where there is one.

    ``p' = p + beta ([y != 0] - p)`` and, where ``y != 0``, ``z' = z + alpha (y - z)``; the forecast is ``p z``.

    Source: Intermittent demand: linking forecasting to inventory obsolescence (Teunter, Syntetos and Babai, 2011).
    """

    title: ClassVar[str] = "demand now and then"

    @classmethod
    def fit(cls, values: Values, season: int) -> Self:
        given = np.isfinite(values)
        demand = given & (values != 0)
        chance = demand.sum(0) / np.maximum(given.sum(0), 1)
        size = np.where(demand, values, 0.0).sum(0) / np.maximum(demand.sum(0), 1)

        def run(place: Values) -> tuple[Values, Values, Values]:
            alpha, beta = place
            likely, large = (np.broadcast_to(one, alpha.shape).copy() for one in (chance, size))
            squares = np.zeros(alpha.shape)
            for row, there, wanted in zip(np.nan_to_num(values), given, demand, strict=True):
                squares += np.where(there, row - likely * large, 0.0) ** 2
                likely += np.where(there, beta * (wanted - likely), 0.0)
                large += np.where(wanted, alpha * (row - large), 0.0)
            return squares, likely, large

        def loss(place: Values) -> Values:
            return run(0.5 * np.broadcast_to(place, (*place.shape[:2], values.shape[1])))[0]

        start = np.array([(a, b) for a in (0.02, 0.1, 0.4) for b in (0.02, 0.1, 0.4)]).T
        found = 0.5 * search(loss, start, rounds=6, step=0.1)[0]
        _, likely, large = run(found)
        return cls({"alpha": found[0], "beta": found[1], "likely": likely, "large": large})

    def advance(self, row: Values) -> None:
        a, given = self.arrays, np.isfinite(row)
        demand = given & (row != 0)
        a["likely"] = a["likely"] + np.where(given, a["beta"] * (demand - a["likely"]), 0.0)
        a["large"] = a["large"] + np.where(demand, a["alpha"] * (np.nan_to_num(row) - a["large"]), 0.0)

    def forecast(self, steps: int) -> Values:
        return np.repeat((self.arrays["likely"] * self.arrays["large"])[None], steps, axis=0)
