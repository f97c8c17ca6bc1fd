"""Which values of pictures with more than eight bits per channel become the 256 levels that models see.

NumPy only, so that a shipped model can be used without PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Range = tuple[float, float]
#: What files of whole numbers and of floats usually span.
INTEGERS: tuple[Range, ...] = ((0.0, 255.0), (0.0, 65535.0))
FLOATS: tuple[Range, ...] = ((0.0, 1.0), (0.0, 255.0))
_ROWS = 4096


@dataclass(frozen=True)
class Extent:
    """The least and the greatest value of some pictures, and whether all of them are whole numbers."""

    low: float = math.inf
    high: float = -math.inf
    whole: bool = True

    @classmethod
    def of(cls, values: NDArray[Any]) -> Extent:
        """That of an array; values that are not finite make both ends so."""
        numbers = values.astype(np.float64) if values.dtype.kind == "b" else values
        low, high = float(numbers.min()), float(numbers.max())
        pieces = (values[start : start + _ROWS] for start in range(0, len(values), _ROWS))
        whole = values.dtype.kind != "f" or all(not np.modf(piece)[0].any() for piece in pieces)
        return cls(low, high, whole)

    def joined(self, other: Extent) -> Extent:
        return Extent(min(self.low, other.low), max(self.high, other.high), self.whole and other.whole)

    @property
    def finite(self) -> bool:
        return math.isfinite(self.low) and math.isfinite(self.high)

    def range(self, *, floats: bool) -> Range:
        """The values that become 0 and 255.

        The usual range where at least half of it is spanned, so that pictures keep their brightness: 0 to 1 of floats,
        0 to 255, 0 to 65,535. Whole numbers from 0 to 255 always stay as they are. Else the values that there are: a
        file of 16 bits that uses 12 of them, or that holds temperatures, keeps its levels.
        """
        span = self.high - self.low
        if self.whole and self.low >= 0 and self.high <= 255 and not (floats and self.high <= 1):
            return INTEGERS[0]
        for low, high in FLOATS if floats and not (self.whole and self.high > 1) else INTEGERS:
            if low <= self.low and self.high <= high and 2 * span >= high - low:
                return low, high
        return self.low, self.high if span > 0 else self.low + 1


def joined(extents: Iterable[Extent]) -> Extent:
    """The extent of all of them together; without any, nothing is finite."""
    found = Extent()
    for extent in extents:
        found = found.joined(extent)
    return found


@dataclass(frozen=True)
class Levels:
    """Which values become 0 and 255, for all pictures of a data set alike; pictures of eight bits stay as they are.

    Attributes:
        integers: of files of whole numbers, with 16 or 32 bits; none where no such file was seen, which then must lie
            within 0 to 65,535.
        floats: of files of floats, which else must lie within 0 to 1.
    """

    integers: Range | None = None
    floats: Range | None = None

    def eight_bits(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """``round(255 (x - low) / (high - low))`` of values, cut at 0 and 255.

        Raises:
            ValueError: a value is not finite, or lies outside of what such files usually hold and nothing else is
                known; it says so in a few words.
        """
        floats = values.dtype.kind == "f"
        low, high = float(values.min()), float(values.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError("values that are not finite")
        known = self.floats if floats else self.integers
        if known is None:
            usual = FLOATS[:1] if floats else INTEGERS[1:]
            fitting = [one for one in usual if one[0] <= low and high <= one[1]]
            if not fitting:
                wanted = " or ".join(f"{one[0]:g} to {one[1]:g}" for one in usual)
                raise ValueError(f"values from {low:g} to {high:g}; {wanted} is expected")
            known = fitting[0]
        scaled = (values.astype(np.float64) - known[0]) * 255.0 / (known[1] - known[0])
        return np.round(np.clip(scaled, 0, 255)).astype(np.uint8)

    def told(self) -> list[str]:
        """What was chosen, in sentences."""
        chosen = ((self.integers, "more than 8 bits"), (self.floats, "floats"))
        return [
            f"The values of pictures of {name} were taken as {known[0]:.6g} to {known[1]:.6g} and scaled to 0 to 255."
            for known, name in chosen
            if known is not None
        ]


#: Nothing is known of how other pictures use their bits.
UNKNOWN = Levels()
