"""What every local forecaster can do: be fitted to many columns at once, follow new rows, forecast, be written down.

Columns lie side by side and end with the same row; those that begin later are not a number before. Every array of a
forecaster has the columns as its last axis, so that forecasters of other columns are joined and parts of them taken.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Arrays = dict[str, NDArray[Any]]


@dataclass
class Local(ABC):
    """A forecaster of many columns: parameters and states by name, the columns last.

    Class attributes:
        title: what people call it.
        seasonal: names of arrays ``(season, ...)`` whose first row belongs to the next row of the data.

    Attributes:
        arrays: parameters and states.
    """

    title: ClassVar[str]
    seasonal: ClassVar[tuple[str, ...]] = ()

    arrays: Arrays

    @classmethod
    @abstractmethod
    def fit(cls, values: Values, season: int) -> Self:
        """To ``(rows, columns)`` that end with the latest row; not a number where missing or before a column begins."""

    @abstractmethod
    def advance(self, row: Values) -> None:
        """Take in the next row ``(columns,)``; what is missing changes nothing but the time."""

    @abstractmethod
    def forecast(self, steps: int) -> Values:
        """The next ``(steps, columns)``."""

    @property
    def columns(self) -> int:
        return int(next(iter(self.arrays.values())).shape[-1])

    def take(self, columns: NDArray[np.integer]) -> Self:
        """That of some columns."""
        return dataclasses.replace(self, arrays={name: array[..., columns] for name, array in self.arrays.items()})

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Those of several columns side by side."""
        names = parts[0].arrays
        return cls({name: np.concatenate([part.arrays[name] for part in parts], axis=-1) for name in names})

    def turn(self) -> None:
        """Let the second row of a season be the first: the time went on by a row."""
        for name in self.seasonal:
            self.arrays[name] = np.roll(self.arrays[name], -1, axis=0)


def first_rows(values: Values) -> NDArray[np.int64]:
    """The first row of each column with a value; the number of rows where there is none."""
    given = np.isfinite(values)
    return np.where(given.any(0), given.argmax(0), len(values))


def from_the_first(values: Values) -> Values:
    """``(rows, columns)`` with each column moved up to its first value, gaps closed by the value before."""
    rows = np.arange(len(values))[:, None] + first_rows(values)
    moved = np.take_along_axis(values, np.minimum(rows, len(values) - 1), axis=0)
    there = np.isfinite(moved)
    latest = np.maximum.accumulate(np.where(there, np.arange(len(values))[:, None], 0), axis=0)
    return np.where(rows < len(values), np.take_along_axis(moved, latest, axis=0), np.nan)


def last_seasons(values: Values, season: int) -> Values:
    """The latest value of each place in the season, ``(season, columns)``, that of the next row first.

    Where a place has none, the latest value of the column stands for it.
    """
    found = np.full((season, values.shape[1]), np.nan)
    latest = np.full(values.shape[1], np.nan)
    for row in range(max(len(values) - 4 * season, 0), len(values)):
        place = (row - len(values)) % season
        found[place] = np.where(np.isfinite(values[row]), values[row], found[place])
        latest = np.where(np.isfinite(values[row]), values[row], latest)
    return np.where(np.isfinite(found), found, latest)


def search(
    loss: Callable[[Values], Values], start: Values, *, rounds: int = 14, step: float = 0.15, least: float = 0.004
) -> tuple[Values, Values]:
    """The best place of the unit cube for each column, by looking around the best so far in ever smaller steps.

    Args:
        loss: of candidates ``(dimensions, candidates, columns)``: ``(candidates, columns)``.
        start: the candidates of the first look, ``(dimensions, candidates)``.
        rounds: looks at most; ``step`` is that of the first, and the least ends it.

    Returns:
        The place ``(dimensions, columns)`` and the loss ``(columns,)``.
    """
    dimensions = len(start)
    with np.errstate(all="ignore"):
        found = np.nan_to_num(loss(start[:, :, None]), nan=np.inf)
        columns = np.arange(found.shape[1])
        chosen = found.argmin(0)
        best, reached = start[:, chosen], found[chosen, columns]
        steps = np.full(len(columns), step)
        moved = np.zeros_like(best)
        directions = np.concatenate([np.eye(dimensions), -np.eye(dimensions)])
        for _ in range(rounds):
            tried = best[:, None] + directions.T[:, :, None] * steps
            tried = np.concatenate([tried, (best + moved)[:, None]], axis=1).clip(0.0, 1.0)
            found = np.nan_to_num(loss(tried), nan=np.inf)
            chosen = found.argmin(0)
            better = found[chosen, columns] < reached
            place = tried[:, chosen, columns]
            moved = np.where(better, place - best, 0.0)
            best = np.where(better, place, best)
            reached = np.where(better, found[chosen, columns], reached)
            steps = np.where(better, steps, steps / 2)
            if steps.max() < least:
                break
    return best, reached


def corrected_information(deviance: Values, parameters: Any, count: Values) -> Values:
    """Akaike's criterion for small samples, ``deviance + 2 k n / (n - k - 1)``; infinite where there are too few."""
    left = count - parameters - 1
    with np.errstate(all="ignore"):
        return np.where(left > 0, deviance + 2 * parameters * count / left, np.inf)
