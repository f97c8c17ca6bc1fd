"""Complex exponential smoothing (CES): a level with a companion, which follow trends of any form."""

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
from formwright.deployment.local_models.smoothing import LONGEST_SEASON
from formwright.deployment.local_models.theta import seasonal_pattern

#: Without a season, with one that is a number (partial), with one that has a companion too (full).
FORMS = (0, 1, 2)
#: Rows that are gone through forwards and back before the first: so many, or so many seasons.
WARM_ROWS, WARM_SEASONS = 12, 3


@dataclass
class ComplexSmoothing(Local):
    """Level ``l`` and season ``s``, each with a companion that carries what errors tell of the way ahead.

    With the error ``e = y - l - s``: ``l' = l - (1 - a1) c + (a0 - a1) e``, ``c' = l + (1 - a0) c + (a0 + a1) e``, and
    of the season in the same way with ``b0`` and ``b1`` (``b1 = 1`` where it is partial; no season at all in the third
    form). The form with the least corrected criterion of Akaike is taken for each column.

    Source: Complex exponential smoothing (Svetunkov, Kourentzes and Ord, 2022). The states before the first row come
    from going through the first seasons and back.
    """

    title: ClassVar[str] = "complex exponential smoothing"
    seasonal: ClassVar[tuple[str, ...]] = ("season", "seasonal_companion")

    @classmethod
    def fit(cls, values: Values, season: int) -> Self:
        season = season if 1 < season <= LONGEST_SEASON else 1
        forms = FORMS if season > 1 else FORMS[:1]
        panel = _Panel(values, season, forms)
        place, reached = search(panel.loss, _starts())
        criterion = corrected_information(reached, panel.parameters, panel.counts)
        form = np.nan_to_num(criterion, nan=np.inf).reshape(len(forms), -1).argmin(0)
        return cls(panel.states(place, form * values.shape[1] + np.arange(values.shape[1])))

    def advance(self, row: Values) -> None:
        a = self.arrays
        season, beside = a["season"][0], a["seasonal_companion"][0]
        error = row - a["level"] - season
        error = np.where(np.isfinite(error), error, 0.0)
        level, companion = a["level"], a["companion"]
        a["level"] = level - (1 - a["a1"]) * companion + (a["a0"] - a["a1"]) * error
        a["companion"] = level + (1 - a["a0"]) * companion + (a["a0"] + a["a1"]) * error
        on = a["on"]
        a["season"][0] = season + on * ((a["b0"] - a["b1"]) * error - (1 - a["b1"]) * beside)
        a["seasonal_companion"][0] = on * (season + (1 - a["b0"]) * beside + (a["b0"] + a["b1"]) * error)
        self.turn()

    def forecast(self, steps: int) -> Values:
        ahead = self.take(np.arange(self.columns))
        found = np.empty((steps, self.columns))
        nothing = np.full(self.columns, np.nan)
        for step in range(steps):
            found[step] = ahead.arrays["level"] + ahead.arrays["season"][0]
            ahead.advance(nothing)
        return found


def _starts() -> Values:
    """A few places to begin with, as shares of the ranges of a0, a1, b0 and b1."""
    grid = [(a0, a1, b, 0.5) for a0 in (0.52, 0.6, 0.75, 0.9) for a1 in (0.45, 0.5, 0.55) for b in (0.1, 0.52)]
    return np.array(grid).T


class _Panel:
    """Columns times forms, side by side: form after form, each with all columns."""

    def __init__(self, values: Values, season: int, forms: tuple[int, ...]) -> None:
        self.values, self.season = values, season
        count = values.shape[1]
        self.first = np.tile(first_rows(values), len(forms))
        self.kind = np.repeat(np.array(forms), count)
        self.counts = np.tile(np.isfinite(values).sum(0), len(forms))
        self.parameters = 5 + (self.kind > 0) * (1 + season) + (self.kind > 1) * (1 + season)
        rows = from_the_first(values)[: max(season, 10)]
        given = np.isfinite(rows)
        self.level = np.tile(np.where(given, rows, 0.0).sum(0) / np.maximum(given.sum(0), 1), len(forms))
        pattern = _added(values, season)
        self.pattern = np.tile(pattern, (1, len(forms))) * (self.kind > 0)
        self.able = (self.counts > 0) & ((self.kind == 0) | (self.counts >= 2 * season + 1))

    def _parameters(self, place: Values) -> tuple[Values, Values, Values, Values]:
        a0, a1 = 0.01 + 1.98 * place[0], 0.5 + place[1]
        b0 = np.where(self.kind > 1, 0.01 + 1.98 * place[2], 1.0 + place[2])
        return a0, a1, b0, np.where(self.kind > 1, 0.5 + place[3], 1.0)

    def _run(self, place: Values, columns: NDArray[np.int64] | None = None) -> dict[str, Any]:
        """Go through the first rows and back, then through all; the states at the end, and the squared errors."""
        chosen = slice(None) if columns is None else columns
        a0, a1, b0, b1 = (one[..., chosen] for one in self._parameters(place))
        on = (self.kind > 0)[chosen].astype(np.float64)
        shape, season = a0.shape, self.season
        level = np.broadcast_to(self.level[chosen], shape).copy()
        companion = level / 1.1
        seasons = np.broadcast_to(self.pattern[:, *[None] * (len(shape) - 1), chosen], (season, *shape)).copy()
        beside = seasons / 1.1
        owner = np.tile(np.arange(self.values.shape[1]), len(self.kind) // self.values.shape[1])[chosen]
        first, rows = self.first[chosen], self.values[:, owner]
        begin = int(first.min(initial=0))
        warmed = first + max(WARM_ROWS, WARM_SEASONS * season)
        warm = range(begin, min(len(rows), int(warmed.max(initial=0))))
        gain, gain_companion = a0 - a1, a0 + a1
        keep, keep_companion = 1 - a1, 1 - a0
        of_season, of_beside = on * (b0 - b1), on * (b0 + b1)
        lose, lose_beside = on * (1 - b1), on * (1 - b0)
        squares = np.zeros(shape)
        for course, until in ((warm, warmed), (reversed(warm), warmed), (range(begin, len(rows)), len(rows))):
            squares = np.zeros(shape)
            for row in course:
                y, turn = rows[row], row % season
                now = seasons[turn]
                begun = (row >= first) & (row < until)
                error = np.where(np.isfinite(y) & begun, y - level - now, 0.0)
                after = level - keep * companion + gain * error
                following = level + keep_companion * companion + gain_companion * error
                if not begun.all():
                    after, following = np.where(begun, after, level), np.where(begun, following, companion)
                if season > 1:
                    near = beside[turn]
                    seasons[turn] = now + of_season * error - begun * lose * near
                    beside[turn] = np.where(begun, on * now + lose_beside * near + of_beside * error, near)
                level, companion = after, following
                squares += error * error
        turned = -(len(rows) % season)
        return {
            **{"a0": a0, "a1": a1, "b0": b0, "b1": b1, "on": np.broadcast_to(on, shape)},
            **{"level": level, "companion": companion, "season": np.roll(seasons, turned, axis=0)},
            "seasonal_companion": np.roll(beside, turned, axis=0),
            "squares": squares,
        }

    def loss(self, place: Values) -> Values:
        """Twice the negative logarithm of the likelihood, but for a constant."""
        found = self._run(np.broadcast_to(place, (*place.shape[:2], len(self.kind))))
        squares = np.maximum(found["squares"], 1e-300)
        return np.where(self.able, self.counts * np.log(squares / np.maximum(self.counts, 1)), np.inf)

    def states(self, place: Values, columns: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        with np.errstate(all="ignore"):
            found = self._run(place, columns)
        del found["squares"]
        return {name: np.array(array) for name, array in found.items()}


def _added(values: Values, season: int) -> Values:
    """A season that is added, ``(season, columns)``, from the whole column."""
    if season < 2:
        return np.zeros((1, values.shape[1]))
    # of values that may be below zero it is never multiplied
    lowered = values - np.nanmax(np.where(np.isfinite(values), values, -np.inf), axis=0, initial=0.0) - 1.0
    return seasonal_pattern(lowered, season)[0]
