"""How far integers of few bits should reach, for values that are spread as a histogram says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Range = tuple[float, float]

BINS = 2048
SAMPLES = 100_000  # values of one tensor and run that enter its histogram
FACTORS = np.linspace(0.2, 1.0, 81)  # by which ranges are shrunk to find the best


@dataclass
class Histogram:
    """How one tensor's values are spread: ``counts`` of equal bins between the exact ``low`` and ``high``.

    ``steps`` are those between the integers that the values become: 255 for the 256 values of 8 bits.
    """

    low: float
    high: float
    counts: NDArray[np.float64]
    steps: int = 255

    @property
    def centres(self) -> NDArray[np.float64]:
        edges = np.linspace(self.low, self.high, len(self.counts) + 1)
        return (edges[1:] + edges[:-1]) / 2


def extremes(histogram: Histogram) -> Range:
    """From the smallest to the largest value seen: nothing is clipped."""
    return histogram.low, histogram.high


def percentile(histogram: Histogram, share: float) -> Range:
    """The middle ``share`` of the values; the tails are clipped."""
    total = histogram.counts.sum()
    if not total:
        return extremes(histogram)
    below = np.cumsum(histogram.counts) / total
    tail = (1 - share) / 2
    edges = np.linspace(histogram.low, histogram.high, len(histogram.counts) + 1)
    first = int(np.searchsorted(below, tail, side="right"))
    last = min(int(np.searchsorted(below, 1 - tail)) + 1, len(edges) - 1)
    return min(float(edges[first]), 0.0), max(float(edges[last]), 0.0)


def least_squares(histogram: Histogram) -> Range:
    """The range, shrunk on both sides by one factor, with the least squared error of rounding and clipping.

    Σ counts · error²: what is inside the range is rounded (a twelfth of a step squared), the rest is clipped.
    """
    centres = histogram.centres
    low, high = FACTORS[:, None] * histogram.low, FACTORS[:, None] * histogram.high
    clipped = centres - np.clip(centres, low, high)
    rounded = ((high - low) / histogram.steps) ** 2 / 12
    errors = np.where(clipped == 0, rounded, clipped**2) @ histogram.counts
    best = float(FACTORS[int(np.argmin(errors))])
    return best * histogram.low, best * histogram.high


METHODS: dict[str, Callable[[Histogram], Range]] = {
    "extremes": extremes,
    "percentile 99.99": lambda histogram: percentile(histogram, 0.9999),
    "least squares": least_squares,
}
