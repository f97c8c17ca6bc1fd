"""Series that are made here: to pretrain on, and of another kind to be surprised by."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from formwright.errors import UnknownNameError, UserError

Floats = NDArray[np.float64]
Random = np.random.Generator

#: Steps of a season, from a few to a quarter of a usual window.
SHORTEST, LONGEST = 4.0, 128.0


def _periods(count: int, random: Random) -> Floats:
    return SHORTEST * (LONGEST / SHORTEST) ** random.random((count, 1))


def _noise(shape: tuple[int, int], random: Random) -> Floats:
    """First-order autoregressive noise of variance one, of any persistence."""
    count, length = shape
    keep = random.uniform(0.0, 0.9, count)
    shocks = random.standard_normal(shape) * np.sqrt(1 - keep**2)[:, None]
    noise = np.empty(shape)
    state = random.standard_normal(count)
    for step in range(length):
        state = keep * state + shocks[:, step]
        noise[:, step] = state
    return noise


def _seasonal(count: int, length: int, random: Random) -> Floats:
    """A trend, one to three smooth seasons with a harmonic each, and noise."""
    time = np.arange(length)[None]
    series = random.normal(0, 1.5, (count, 1)) * (time / length - 0.5)
    for present in (1.0, 0.6, 0.3):
        angle = 2 * np.pi * (time / _periods(count, random) + random.random((count, 1)))
        amplitude = random.uniform(0.3, 1.5, (count, 1)) * (random.random((count, 1)) < present)
        harmonic = random.uniform(0, 0.5, (count, 1))
        series += amplitude * (np.sin(angle) + harmonic * np.sin(2 * angle + random.uniform(0, 6.28, (count, 1))))
    return series + random.uniform(0.05, 0.4, (count, 1)) * _noise((count, length), random)


def _waves(count: int, length: int, random: Random) -> Floats:
    """Saw teeth, rectangles and spikes, with a step in the level and noise: shapes that no few sines have."""
    phase = (np.arange(length)[None] / _periods(count, random) + random.random((count, 1))) % 1.0
    duty = random.uniform(0.1, 0.6, (count, 1))
    shapes = np.stack([2 * phase - 1, np.where(phase < duty, 1.0, -1.0), 4 * np.exp(-phase / (0.3 * duty)) - 1])
    series = np.take_along_axis(shapes, random.integers(0, 3, (1, count, 1)), 0)[0]
    step = np.arange(length)[None] > random.uniform(0, length, (count, 1))
    series = series * random.uniform(0.5, 1.5, (count, 1)) + random.normal(0, 1, (count, 1)) * step
    return series + random.uniform(0.05, 0.4, (count, 1)) * _noise((count, length), random)


#: What can be made, by name.
KINDS: dict[str, Callable[[int, int, Random], Floats]] = {"seasonal": _seasonal, "waves": _waves}


def synthetic_series(count: int, length: int, *, kind: str = "seasonal", seed: int = 0) -> Floats:
    """``count`` univariate series of ``length`` steps, ``(count, length)``, at random levels and in random units.

    Args:
        kind: ``seasonal`` (trend, sines and noise) or ``waves`` (saw teeth, rectangles and spikes, with a step).
        seed: decides everything.

    Raises:
        UserError: there would be no series, or none with two steps.
        UnknownNameError: the kind is not known.
    """
    if kind not in KINDS:
        raise UnknownNameError("kind of series", kind, KINDS)
    if count < 1 or length < 2:
        raise UserError(f"At least one series of two steps is expected; {count} of {length} were asked for.")
    random = np.random.default_rng([seed, list(KINDS).index(kind)])
    series = KINDS[kind](count, length, random)
    return series * np.exp(random.normal(0, 2, (count, 1))) + random.normal(0, 10, (count, 1))
