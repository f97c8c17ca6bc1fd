"""The scales of charts: where a value stands, in percent of the plotting area, and the round values beside it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from formwright.drawing.ticks import round_numbers, round_ratios

Show = Callable[[float], str]

MARGIN = 0.06  # of the range, on both sides of the values
MOST_TICKS = 6  # as many as a narrow screen has room for
STRETCH_FROM = 0.9  # accuracies above this are told apart by their errors
WIDE_RANGE = 20.0  # largest over smallest from which a logarithm shows more than a plain scale


@dataclass(frozen=True)
class Tick:
    at: float
    text: str


@dataclass(frozen=True)
class Scale:
    """A scale from values to percent: ``at(v) = 100 * (transform(v) - low) / (high - low)``.

    ``stretched`` says that accuracies near 100 % are further apart than others.
    """

    label: str
    transform: Callable[[float], float]
    low: float
    high: float
    ticks: tuple[Tick, ...]
    stretched: bool = False

    def at(self, value: float) -> float:
        return round(100 * (self.transform(value) - self.low) / (self.high - self.low), 2)


def _span(values: Iterable[float], least: float) -> tuple[float, float]:
    """The range of ``values`` with a margin, at least ``least`` wide."""
    values = list(values)
    low, high = min(values), max(values)
    spare = max((least - (high - low)) / 2, MARGIN * (high - low))
    return low - spare, high + spare


def _axis(
    label: str, show: Show, transform: Callable[[float], float], low: float, high: float, at: Sequence[float]
) -> Scale:
    """An axis between transformed ends, with ticks at the values ``at``."""
    bare = Scale(label, transform, low, high, ())
    return dataclasses.replace(bare, ticks=tuple(Tick(bare.at(value), show(value)) for value in at))


def log_axis(label: str, values: Iterable[float], show: Show) -> Scale:
    """A scale on which equal ratios are equally far apart, over those of ``values`` that are finite and positive."""
    kept = [math.log10(value) for value in values if math.isfinite(value) and value > 0]
    low, high = _span(kept or [0.0], 0.3)
    return _axis(label, show, math.log10, low, high, round_ratios(10**low, 10**high, MOST_TICKS))


def plain_axis(label: str, values: Iterable[float], show: Show, *, least: float = 1e-3) -> Scale:
    """A scale on which equal differences are equally far apart, over those of ``values`` that are finite.

    It is at least ``least`` of the first of them wide.
    """
    kept = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = _span(kept, max(least * abs(kept[0]), 1e-9))
    return _axis(label, show, float, low, high, round_numbers(low, high, MOST_TICKS))


def accuracy_axis(label: str, values: Iterable[float], samples: int) -> Scale:
    """Shares of right answers; where they are high, equal ratios of *errors* are equally far apart.

    ``samples`` is how many were asked: a perfect score stands where half an error would.
    """
    values = list(values)
    if max(values) < STRETCH_FROM:
        low, high = _span(values, 0.02)
        return _axis(label, _plain_percent, float, low, high, round_numbers(max(low, 0.0), min(high, 1.0), MOST_TICKS))

    def transform(share: float) -> float:
        return -math.log10(max(1 - share, 0.5 / samples))

    low, high = _span(map(transform, values), 0.3)
    at = [1 - error for error in round_ratios(10**-high, 10**-low, MOST_TICKS) if error <= 1]
    return dataclasses.replace(_axis(label, _plain_percent, transform, low, high, at), stretched=True)


def time_axis(label: str, values: Sequence[float], show: Show) -> Scale:
    """Positive values from zero on, or by ratios if they are very unlike."""
    if max(values) > WIDE_RANGE * min(values):
        return log_axis(label, values, show)
    low, high = _span([0.0, *values], 0.0)
    return _axis(
        label, lambda value: show(value) if value else "0", float, low, high, round_numbers(low, high, MOST_TICKS)
    )


def short(value: float) -> str:
    """``1.5 M``, ``20 k``, ``0.03``."""
    if value and not 1e-3 <= abs(value) < 1e15:
        return f"{value:.2g}"
    for size, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e4, " k")):
        if abs(value) >= size:
            return f"{value / (1e3 if size == 1e4 else size):.3g}{unit}"
    return f"{value:.4g}"


def _plain_percent(share: float) -> str:
    return f"{100 * share:.5g}\N{NO-BREAK SPACE}%"
