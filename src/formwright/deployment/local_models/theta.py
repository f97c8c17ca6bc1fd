"""The Theta method: a smoothed level, and a share of the straight line through a column that fades in ahead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from formwright.deployment.local_models.member import Local, Values, first_rows, from_the_first, search

#: A season counts where its autocorrelation is this many standard errors above nothing (a one-sided test of 95 %).
SEASONAL = 1.645


@dataclass
class Theta(Local):
    """The optimised Theta method, on what is left when the season is taken out.

    With ``n`` rows so far, the line ``A + B t`` by least squares through all rows that it was fitted to and the level
    ``l' = alpha y + (1 - alpha) l``, the forecast of step ``h`` is ``l + w ((1 - alpha)^n A + (h - 1 + (1 - (1 -
    alpha)^(n + 1)) / alpha) B)``. ``alpha`` is searched for; ``w`` (``1 - 1 / theta``, 0 to 1) and the first level are
    those with the least squared errors one row ahead. Of a column with two seasons and an autocorrelation at the season
    that is no chance, classical decomposition takes the season out: by division where all values are above zero.

    Source: Models for Optimising the Theta Method and their Relationship to State Space Models (Fiorucci, Pellegrini,
    Louzada, Petropoulos and Koehler, 2016).
    """

    title: ClassVar[str] = "Theta"
    seasonal: ClassVar[tuple[str, ...]] = ("season",)

    @classmethod
    def fit(cls, values: Values, season: int) -> Self:
        pattern, times = seasonal_pattern(values, season)
        rows = np.resize(pattern, (len(values), values.shape[1])) if season > 1 else pattern
        with np.errstate(all="ignore"):
            adjusted = np.where(times, values / rows, values - rows)
        first = first_rows(adjusted)
        moved = from_the_first(adjusted)
        places = np.minimum(np.arange(len(values))[:, None] + first, len(values) - 1)
        given = np.isfinite(np.take_along_axis(adjusted, places, axis=0)) & np.isfinite(moved)
        start, slope = _line(np.where(given, moved, np.nan))
        found = _Levels(moved, given, start, slope)
        alpha, _ = search(found.loss, np.linspace(0.02, 0.98, 9)[None], rounds=8, step=0.06)
        arrays = found.states(alpha[0])
        shift = np.roll(pattern, -(len(values) % season), axis=0)
        return cls({**arrays, "start": start, "slope": slope, "season": shift, "times": times})

    def advance(self, row: Values) -> None:
        a = self.arrays
        season = a["season"][0]
        with np.errstate(all="ignore"):
            y = np.where(a["times"], row / season, row - season)
        expected = a["level"] + a["share"] * self._line(1)[0]
        a["level"] = a["level"] + a["alpha"] * (np.where(np.isfinite(y), y, expected) - a["level"])
        a["rows"] = a["rows"] + 1.0
        self.turn()

    def forecast(self, steps: int) -> Values:
        a = self.arrays
        base = a["level"] + a["share"] * self._line(steps)
        season = a["season"][np.arange(steps) % len(a["season"])]
        return np.where(a["times"], base * season, base + season)

    def _line(self, steps: int) -> Values:
        """What of the line is ahead of the level."""
        a = self.arrays
        alpha, ahead = a["alpha"], np.arange(steps)[:, None]
        fading = (1 - alpha) ** a["rows"]
        return np.asarray(fading * a["start"] + (ahead + (1 - fading * (1 - alpha)) / alpha) * a["slope"])


def seasonal_pattern(values: Values, season: int) -> tuple[Values, NDArray[np.bool_]]:
    """The season ``(season, columns)``, row ``t`` of the data in its row ``t % season``, and whether it is multiplied.

    Nothing (0, added) of columns without two seasons, or where it may be chance.
    """
    count = values.shape[1]
    nothing = np.zeros((max(season, 1), count)), np.zeros(count, bool)
    if season < 2 or len(values) < 2 * season + 1:
        return nothing
    first = first_rows(values)
    there = np.arange(len(values))[:, None] >= first
    moved = from_the_first(values)
    back = np.maximum(np.arange(len(values))[:, None] - first, 0)
    filled = np.where(there, np.take_along_axis(moved, np.minimum(back, len(values) - 1), axis=0), np.nan)
    weights = np.ones(season + 1 - season % 2) / season
    if season % 2 == 0:
        weights[[0, -1]] /= 2
    half = len(weights) // 2
    sums = sum(weight * filled[place : len(filled) - len(weights) + 1 + place] for place, weight in enumerate(weights))
    middle = np.full_like(filled, np.nan)
    middle[half : len(filled) - half] = sums
    times = np.nanmin(np.where(there, filled, np.inf), axis=0) > 0
    with np.errstate(all="ignore"):
        ratio = np.where(times, filled / middle, filled - middle)
        padded = np.concatenate([ratio, np.full((-len(ratio) % season, count), np.nan)])
        cycles = padded.reshape(-1, season, count)
        known = np.isfinite(cycles)
        pattern = np.where(known, cycles, 0.0).sum(0) / np.maximum(known.sum(0), 1)
        pattern = np.where(times, pattern / pattern.mean(0), pattern - pattern.mean(0))
    able = known.any(0).all(0) & np.isfinite(pattern).all(0) & _is_seasonal(filled, season)
    times = times & able & (pattern > 0).all(0)
    able &= times | (np.nanmin(np.where(there, filled, np.inf), axis=0) <= 0)
    return np.where(able, pattern, 0.0), times


def _is_seasonal(filled: Values, season: int) -> NDArray[np.bool_]:
    """Whether the autocorrelation at the season is above what chance makes of it, as in the M competitions."""
    there = np.isfinite(filled)
    count = there.sum(0)
    known = np.where(there, filled - np.where(there, filled, 0.0).sum(0) / np.maximum(count, 1), 0.0)
    variance = np.maximum((known**2).sum(0), 1e-300)
    lags = [(known[lag:] * known[:-lag]).sum(0) / variance for lag in range(1, season + 1)]
    limit = SEASONAL * np.sqrt((1 + 2 * sum(lag**2 for lag in lags[:-1])) / np.maximum(count, 1))
    return np.asarray((np.abs(lags[-1]) > limit) & (count > 2 * season))


def _line(moved: Values) -> tuple[Values, Values]:
    """``A`` and ``B`` of the line ``A + B t`` through columns from their first row, ``t = 1``."""
    given = np.isfinite(moved)
    count = np.maximum(given.sum(0), 1)
    time = np.where(given, np.arange(1.0, len(moved) + 1)[:, None], 0.0)
    known = np.where(given, moved, 0.0)
    middle = time.sum(0) / count
    apart = np.where(given, time - middle, 0.0)
    slope = (apart * known).sum(0) / np.maximum((apart**2).sum(0), 1e-12)
    return known.sum(0) / count - slope * middle, slope


class _Levels:
    """Levels of columns from their first row on, for any alpha."""

    def __init__(self, moved: Values, given: NDArray[np.bool_], start: Values, slope: Values) -> None:
        self.moved, self.given, self.start, self.slope = np.nan_to_num(moved), given, start, slope
        self.there = np.isfinite(moved)
        self.rows = self.there.sum(0).astype(np.float64)

    def _run(self, alpha: Values) -> tuple[Values, Values, Values]:
        """Squared errors, the share ``w`` of the line and the last level, for ``alpha`` ``(..., columns)``."""
        level = np.zeros(np.broadcast_shapes(alpha.shape, self.start.shape))
        fading = np.ones_like(level)
        sums = np.zeros((6, *level.shape))
        for row, given, there in zip(self.moved, self.given, self.there, strict=True):
            error = np.where(given, row - level, 0.0)
            fades = np.where(given, fading, 0.0)
            line = fades * self.start + np.where(given, (1 - fading) / alpha, 0.0) * self.slope
            sums += error * error, error * fades, error * line, fades * fades, fades * line, line * line
            level += alpha * error
            fading = np.where(there, fading * (1 - alpha), fading)
        ee, ep, ed, pp, pd, dd = sums
        determinant = pp * dd - pd * pd
        share = np.where(determinant > 1e-12 * pp * dd, (ed * pp - ep * pd) / np.maximum(determinant, 1e-300), 0.5)
        share = share.clip(0.0, 1.0)
        first = (ep - share * pd) / np.maximum(pp, 1e-300)
        squares = ee - 2 * first * ep - 2 * share * ed + first**2 * pp + 2 * first * share * pd + share**2 * dd
        return np.maximum(squares, 0.0), share, level + first * fading

    def loss(self, place: Values) -> Values:
        return self._run(np.maximum(place[0], 0.01))[0]

    def states(self, place: Values) -> dict[str, NDArray[Any]]:
        alpha = np.maximum(place, 0.01)
        _, share, level = self._run(alpha)
        return {"alpha": alpha, "share": share, "level": level, "rows": self.rows}
