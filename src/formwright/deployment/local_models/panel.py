"""Local forecasters of all columns of all series, and the mean of what they say."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from formwright.deployment.local_models.complex_smoothing import ComplexSmoothing
from formwright.deployment.local_models.member import Local, Values
from formwright.deployment.local_models.simple import Intermittent, LastSeason, SeasonalDrift
from formwright.deployment.local_models.smoothing import DampedSmoothing, Smoothing
from formwright.deployment.local_models.theta import Theta
from formwright.files import write_atomically

#: Every kind by the name that files know it by, the cheapest first.
KINDS: dict[str, type[Local]] = {
    "last_season": LastSeason,
    "drift": SeasonalDrift,
    "intermittent": Intermittent,
    "theta": Theta,
    "damped": DampedSmoothing,
    "complex": ComplexSmoothing,
    "smoothing": Smoothing,
}
#: The latest rows that are fitted to: so many, or so many seasons if that is more.
FITTED_ROWS, FITTED_SEASONS = 1000, 8
#: Columns of about the same number of rows that are fitted at once: what fits into the processor's memory.
MOST_COLUMNS = 256
#: A forecast leaves the range of the past by so many times this range at most.
BEYOND = 3.0
FILE = "local.npz"


def side_by_side(columns: Sequence[Values]) -> Values:
    """``(rows, columns)`` that end together, not a number before a column begins."""
    rows = max((len(column) for column in columns), default=0)
    found = np.full((rows, len(columns)), np.nan)
    for index, column in enumerate(columns):
        found[rows - len(column) :, index] = column
    return found


def alike(columns: Sequence[Values]) -> list[NDArray[np.int64]]:
    """Places of columns in groups that are fitted at once: of about the same length."""
    lengths = np.array([len(column) for column in columns])
    order = np.argsort(lengths, kind="stable")
    groups: list[NDArray[np.int64]] = []
    while len(order):
        count = int((lengths[order] <= 1.25 * lengths[order[0]] + 4).sum())
        groups.append(order[: min(count, MOST_COLUMNS)])
        order = order[len(groups[-1]) :]
    return groups


def fitted(kind: type[Local], columns: Sequence[Values], season: int) -> Local:
    """A forecaster of columns of any length, fitted to their latest rows."""
    most = max(FITTED_ROWS, FITTED_SEASONS * season)
    columns = [column[-most:] for column in columns]
    groups = alike(columns)
    parts = [kind.fit(side_by_side([columns[place] for place in group]), season) for group in groups]
    return kind.join(parts).take(np.argsort(np.concatenate(groups)))


def follow(member: Local, rows: Sequence[Values], places: Sequence[NDArray[np.int64]], horizon: int) -> list[Values]:
    """What a forecaster says of each column after some of the rows that come next.

    Args:
        member: fitted to what comes before ``rows``; it is left as it is.
        rows: of each column.
        places: of each column, after how many of these rows to forecast, in rising order.

    Returns:
        For each column ``(places, horizon)``.
    """
    found = [np.empty((len(own), horizon)) for own in places]
    wanted: dict[int, list[tuple[int, int]]] = {}
    for column, own in enumerate(places):
        for index, place in enumerate(own):
            wanted.setdefault(int(place), []).append((column, index))
    moving = member.take(np.arange(member.columns))
    for place in range(max(wanted, default=-1) + 1):
        if place in wanted:
            forecast = moving.forecast(horizon)
            for column, index in wanted[place]:
                found[column][index] = forecast[:, column]
        moving.advance(np.array([column[place] if place < len(column) else np.nan for column in rows]))
    return found


@dataclass
class LocalModels:
    """Forecasters of every column of every series as of its latest row.

    Attributes:
        places: of each series, by its name; the columns of a series follow each other.
        ends: the time of the latest row of each.
        season: rows of a season.
        lowest, highest: between which forecasts of each column stay.
        members: forecasters by the name of their kind.
    """

    places: dict[str, int]
    ends: NDArray[Any]
    season: int
    lowest: Values
    highest: Values
    members: dict[str, Local] = field(default_factory=dict)

    @classmethod
    def start(cls, names: Sequence[str], ends: NDArray[Any], columns: Sequence[Values], season: int) -> Self:
        """Without any member yet.

        Args:
            columns: those of the first series, of the second, and so on.
        """
        lowest, highest = limits(columns)
        return cls({name: place for place, name in enumerate(names)}, ends, season, lowest, highest)

    def save(self, folder: Path) -> None:
        """Write ``local.npz`` into ``folder``."""
        write_atomically(folder / FILE, self.content())

    def content(self) -> bytes:
        """What ``local.npz`` holds."""
        arrays: dict[str, Any] = {
            "names": np.array(list(self.places), dtype=np.str_),
            "ends": self.ends.astype(np.int64),
            "dated": np.array(np.issubdtype(self.ends.dtype, np.datetime64)),
            "season": np.array(self.season),
            "lowest": self.lowest,
            "highest": self.highest,
        }
        for name, member in self.members.items():
            arrays |= {f"{name}.{key}": array for key, array in member.arrays.items()}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        return buffer.getvalue()

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read ``local.npz`` in ``folder``.

        Raises:
            ValueError: it is missing or not valid.
        """
        try:
            with np.load(folder / FILE, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise ValueError(f"{FILE} cannot be read ({error})") from error
        ends = arrays.pop("ends")
        found = cls(
            {str(name): place for place, name in enumerate(arrays.pop("names"))},
            ends.astype("datetime64[ns]") if bool(arrays.pop("dated")) else ends,
            int(arrays.pop("season")),
            arrays.pop("lowest"),
            arrays.pop("highest"),
        )
        kinds: dict[str, dict[str, NDArray[Any]]] = {}
        for name, array in arrays.items():
            kind, _, key = name.partition(".")
            kinds.setdefault(kind, {})[key] = array
        found.members = {name: KINDS[name](own) for name, own in kinds.items()}
        return found


def limits(columns: Sequence[Values]) -> tuple[Values, Values]:
    """Between which values a forecast of each column stays: its range, and some times as much on both sides."""
    lowest, highest = (
        np.array([function(column[np.isfinite(column)], initial=start) for column in columns])
        for function, start in ((np.min, np.inf), (np.max, -np.inf))
    )
    beyond = np.where(highest > lowest, BEYOND * (highest - lowest), BEYOND * np.abs(highest))
    return np.nan_to_num(lowest - beyond, nan=-np.inf), np.nan_to_num(highest + beyond, nan=np.inf)


def mean_of(forecasts: Mapping[str, NDArray[np.floating]], weights: Mapping[str, float]) -> Values:
    """The weighted mean of forecasts of one shape; of what is finite among them."""
    total: Any = 0.0
    weight: Any = 0.0
    for name, share in weights.items():
        if name in forecasts and share:
            there = np.isfinite(forecasts[name])
            total = total + np.where(there, share * np.where(there, forecasts[name], 0.0), 0.0)
            weight = weight + np.where(there, share, 0.0)
    return np.asarray(np.where(weight > 0, total / np.where(weight > 0, weight, 1.0), np.nan), np.float64)
