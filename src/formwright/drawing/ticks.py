"""Round numbers along the axis of a picture."""

from __future__ import annotations

import itertools
import math


def round_numbers(low: float, high: float, most: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten from ``low`` to ``high``, at most ``most`` of them."""
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(power * factor for factor in (1, 2, 5, 10, 20) if power * factor * (most - 1) > high - low)
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def round_ratios(low: float, high: float, most: int) -> list[float]:
    """Round numbers within a range of positive ones, about evenly spread on a logarithmic scale."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        found = [number for power in powers for factor in factors if low <= (number := factor * 10.0**power) <= high]
        gaps = [math.log(after / before) for before, after in itertools.pairwise(found)]
        if min(gaps, default=math.inf) >= math.log(high / low) / (most + 1):
            return found if len(found) > 1 else round_numbers(low, high, most)
    return found[:: math.ceil(len(found) / most)]
