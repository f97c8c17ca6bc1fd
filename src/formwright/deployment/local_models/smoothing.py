"""Exponential smoothing in state-space form (ETS): fifteen forms, the best for each column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from formwright.deployment.local_models.member import (
    Local,
    Values,
    corrected_information,
    first_rows,
    from_the_first,
    search,
)

#: The longest season that has a state of its own.
LONGEST_SEASON = 366
#: The least and the largest damping of a trend.
DAMPING = 0.8, 0.98
#: How a form is built: error relative or not, trend, trend damped, season (0 none, 1 added, 2 multiplied).
Form = tuple[bool, bool, bool, int]
FORMS: tuple[Form, ...] = tuple(
    (relative, trend, damped, season)
    for relative, season in ((False, 0), (True, 0), (False, 1), (True, 1), (True, 2))
    for trend, damped in ((False, False), (True, False), (True, True))
)
#: The one form where there is no time for more: a damped trend, with a season as it suits the column.
FIXED: tuple[Form, ...] = ((False, True, True, 0), (False, True, True, 1), (True, True, True, 2))


@dataclass
class Smoothing(Local):
    """Level, trend and season that follow the error ``e`` of the forecast of the next row.

    ``f = (l + d b) * s`` or ``(l + d b) + s``, ``e = y - f``, ``r = e / s`` where the season is multiplied and ``e``
    else; ``l' = l + d b + alpha r``, ``b' = d b + beta r``, ``s' = s + gamma e / (l + d b)`` or ``s + gamma e``.
    Whether errors are relative to ``f`` changes nothing of this, but what is most likely: ``n log sum e²``, or
    ``n log sum (e / f)² + 2 sum log f``. Among the forms, the one with the least corrected criterion of Akaike is
    taken.

    Source: Forecasting with Exponential Smoothing: the State Space Approach (Hyndman, Koehler, Ord and Snyder, 2008).
    The states before the first row come from the first two or three seasons (or ten rows) and are not optimised.
    """

    title: ClassVar[str] = "exponential smoothing"
    seasonal: ClassVar[tuple[str, ...]] = ("season",)
    forms: ClassVar[tuple[Form, ...]] = FORMS

    @classmethod
    def fit(cls, values: Values, season: int) -> Self:
        season = season if 1 < season <= LONGEST_SEASON else 1
        forms = [form for form in cls.forms if season > 1 or not form[3]]
        panel = _Panel(values, season, forms)
        place, reached = search(panel.loss, _starts())
        criterion = corrected_information(reached, panel.parameters, panel.counts)
        form = np.nan_to_num(criterion, nan=np.inf).reshape(len(forms), -1).argmin(0)
        chosen = form * values.shape[1] + np.arange(values.shape[1])
        return cls(panel.states(place, chosen))

    def advance(self, row: Values) -> None:
        a = self.arrays
        base = a["level"] + a["damping"] * a["trend"]
        season, times = a["season"][0], a["times"]
        with np.errstate(all="ignore"):
            error = row - np.where(times, base * season, base + season)
            error = np.where(np.isfinite(error), error, 0.0)
            of_level = np.where(times, error / season, error)
            a["season"][0] = season + a["gamma"] * np.where(times, error / base, error)
        a["level"] = base + a["alpha"] * of_level
        a["trend"] = a["damping"] * a["trend"] + a["beta"] * of_level
        self.turn()

    def forecast(self, steps: int) -> Values:
        a = self.arrays
        ahead = np.cumsum(a["damping"] ** np.arange(1, steps + 1)[:, None], axis=0)
        base = a["level"] + ahead * a["trend"]
        season = a["season"][np.arange(steps) % len(a["season"])]
        return np.where(a["times"], base * season, base + season)


@dataclass
class DampedSmoothing(Smoothing):
    """Exponential smoothing with a damped trend, the one form for all columns; with a season as it suits each."""

    title: ClassVar[str] = "damped exponential smoothing"
    forms: ClassVar[tuple[Form, ...]] = FIXED


def _starts() -> Values:
    """A few places to begin with: shares of alpha, beta, gamma and the damping."""
    grid = [(a, b, c, d) for a in (0.05, 0.2, 0.5, 0.9) for b in (0.03, 0.3) for c, d in ((0.05, 0.9), (0.3, 0.6))]
    return np.array(grid).T


class _Panel:
    """Columns times forms, side by side: form after form, each with all columns."""

    def __init__(self, values: Values, season: int, forms: list[Form]) -> None:
        self.values, self.season = values, season
        count = values.shape[1]
        self.first = first_rows(values)
        own = np.isfinite(values).sum(0)
        relative, trend, damped, kind = (np.repeat(np.array(part), count) for part in zip(*forms, strict=True))
        self.relative, self.trended, self.damped, self.kind = relative, trend, damped, kind
        self.counts = np.tile(own, len(forms))
        self.parameters = 3 + 2 * trend + damped + season * (kind > 0)
        starts = [_plain_start(values), *(_seasonal_start(values, season, times=one) for one in (False, True))]
        place = kind, np.tile(np.arange(count), len(forms))
        self.level, self.trend = (np.stack([one[part] for one in starts])[place] for part in (0, 1))
        seasons = np.stack([np.zeros((season, count)), starts[1][2], starts[2][2]], axis=1)
        self.start_season = seasons[:, place[0], place[1]]
        lowest = np.tile(np.nanmin(np.where(np.isfinite(values), values, np.inf), 0), len(forms))
        self.able = (lowest > 0) | ~(relative | (kind == 2))
        self.able &= (kind == 0) | (self.counts >= 2 * season)
        self.able &= self.counts > 0
        self.trend = np.where(trend, self.trend, 0.0)

    def _parameters(self, place: Values) -> tuple[Values, Values, Values, Values]:
        alpha = 0.0001 + 0.9998 * place[0]
        beta = np.where(self.trended, alpha * place[1], 0.0)
        gamma = np.where(self.kind > 0, (1 - alpha) * place[2], 0.0)
        low, high = DAMPING
        damping = np.where(self.damped, low + (high - low) * place[3], 1.0)
        return alpha, beta, gamma, damping

    def _run(self, place: Values, columns: NDArray[np.int64] | None = None) -> dict[str, Any]:
        """Follow all rows; the states at the end, and the sums that the likelihood is made of."""
        chosen = slice(None) if columns is None else columns
        alpha, beta, gamma, damping = (one[..., chosen] for one in self._parameters(place))
        shape, times = alpha.shape, self.kind[chosen] == 2
        relative = self.relative[chosen]
        level = np.broadcast_to(self.level[chosen], shape).copy()
        trend = np.broadcast_to(self.trend[chosen], shape).copy()
        seasons = (
            np.repeat(self.start_season[:, None, chosen], shape[0], axis=1)
            if len(shape) > 1
            else (self.start_season[:, chosen].copy())
        )
        owner = np.tile(np.arange(self.values.shape[1]), len(self.kind) // self.values.shape[1])[chosen]
        first, rows = self.first[owner], self.values[:, owner]
        any_times, any_relative = times.any(), relative.any()
        squares, logarithms = np.zeros(shape), np.zeros(shape)
        ragged = int(first.max(initial=0))
        for row in range(int(first.min(initial=0)), len(rows)):
            y, turn = rows[row], row % self.season
            given = np.isfinite(y)
            sloped = damping * trend
            base = level + sloped
            season = seasons[turn]
            expected = np.where(times, base * season, base + season) if any_times else base + season
            error = np.where(given, y - expected, 0.0)
            of_level, of_season = error, error
            if any_times:
                of_level, of_season = np.where(times, error / season, error), np.where(times, error / base, error)
            seasons[turn] = season + gamma * of_season
            after, slope = base + alpha * of_level, sloped + beta * of_level
            if row < ragged:
                begun = row >= first
                after, slope = np.where(begun, after, level), np.where(begun, slope, trend)
            level, trend = after, slope
            if any_relative:
                safe = np.where(expected > 0, expected, np.nan)
                squares += np.where(relative, np.where(given, error / safe, 0.0), error) ** 2
                logarithms += np.where(relative & given, np.log(safe), 0.0)
            else:
                squares += error**2
        parameters = {"alpha": alpha, "beta": beta, "gamma": gamma, "damping": damping}
        states = {"level": level, "trend": trend, "season": np.roll(seasons, -(len(rows) % self.season), axis=0)}
        return {**parameters, **states, "times": times, "squares": squares, "logarithms": logarithms}

    def loss(self, place: Values) -> Values:
        """Twice the negative logarithm of the likelihood, but for a constant."""
        found = self._run(np.broadcast_to(place, (*place.shape[:2], len(self.kind))))
        squares = np.maximum(found["squares"], 1e-300)
        deviance = self.counts * np.log(squares / np.maximum(self.counts, 1)) + 2 * found["logarithms"]
        return np.where(self.able, deviance, np.inf)

    def states(self, place: Values, columns: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        with np.errstate(all="ignore"):
            found = self._run(place, columns)
        names = ("alpha", "beta", "gamma", "damping", "level", "trend", "season", "times")
        return {name: found[name] for name in names}


def _plain_start(values: Values) -> tuple[Values, Values]:
    """Level and trend before the first row, from a line through the first ten."""
    rows = from_the_first(values)[:10]
    given = np.isfinite(rows)
    count = np.maximum(given.sum(0), 1)
    time = np.where(given, np.arange(1.0, len(rows) + 1)[:, None], 0.0)
    known = np.where(given, rows, 0.0)
    middle, mean = time.sum(0) / count, known.sum(0) / count
    spread = (np.where(given, time - middle, 0.0) ** 2).sum(0)
    slope = np.where(count > 2, (np.where(given, time - middle, 0.0) * known).sum(0) / np.maximum(spread, 1e-12), 0.0)
    return mean - slope * middle, slope


def _seasonal_start(values: Values, season: int, *, times: bool) -> tuple[Values, Values, Values]:
    """Level, trend and season before the first row, from the first two or three seasons."""
    rows = from_the_first(values)
    whole = len(rows) // season
    if season < 2 or whole < 2:
        level, trend = _plain_start(values)
        return level, trend, np.full((season, values.shape[1]), float(times))
    cycles = rows[: min(whole, 3) * season].reshape(-1, season, values.shape[1])
    means = cycles.mean(1)
    there = np.isfinite(means)
    trend = np.where(there[-1], (means[-1] - means[0]) / (len(means) - 1), means[1] - means[0]) / season
    places = np.arange(season) - (season - 1) / 2
    lines = means[:, None] + trend * places[:, None]
    with np.errstate(all="ignore"):
        found = cycles / lines if times else cycles - lines
        pattern = np.where(there[:, None], found, 0.0).sum(0) / np.maximum(there.sum(0), 1)
        pattern = pattern / pattern.mean(0) if times else pattern - pattern.mean(0)
    level = means[0] - trend * (season + 1) / 2
    # the season of the first row of a column lies where that row lies among those of the others
    shift = (np.arange(season)[:, None] - first_rows(values)) % season
    return level, trend, np.take_along_axis(pattern, shift, axis=0)
