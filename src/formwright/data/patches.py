"""Training batches of patches cut from pairs of pictures, turned and mirrored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from formwright.batch import Batch
from formwright.data.epochs import EpochBatches


def to_input(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """``(..., height, width, channels)`` from 0 to 255 to ``(..., channels, height, width)`` from 0 to 1."""
    return np.ascontiguousarray(np.moveaxis(pixels.astype(np.float32) / 255, -1, -3))


class PatchBatches(EpochBatches):
    """Endless batches of places drawn from pairs, ``each`` times per picture and epoch.

    Args:
        low, high: uint8 pictures ``(height, width, channels)``, the second ``scale`` times as high and wide.
        side: of a patch of the poor pictures, in pixels.
    """

    samples = "patches"

    def __init__(
        self,
        low: Sequence[NDArray[np.uint8]],
        high: Sequence[NDArray[np.uint8]],
        *,
        scale: int,
        side: int,
        each: int,
        batch_size: int,
        seed: int = 0,
    ) -> None:
        self._low, self._high, self._scale, self._side = low, high, scale, side
        super().__init__(each * len(low), batch_size=batch_size, seed=seed)

    def take(self, chosen: NDArray[np.int64], epoch: int, position: int) -> Batch:
        random = np.random.default_rng([self._seed, epoch, position])
        pairs = [self._patch(int(index) % len(self._low), random) for index in chosen]
        low, high = (np.stack([pair[which] for pair in pairs]) for which in (0, 1))
        return Batch(torch.from_numpy(to_input(low)), torch.from_numpy(to_input(high)))

    def _patch(self, index: int, random: np.random.Generator) -> tuple[NDArray[Any], NDArray[Any]]:
        low, high, scale, side = self._low[index], self._high[index], self._scale, self._side
        top, left = (int(random.integers(size - side + 1)) for size in low.shape[:2])
        turns, mirrored = int(random.integers(4)), bool(random.integers(2))
        cut = (
            low[top : top + side, left : left + side],
            high[top * scale : (top + side) * scale, left * scale : (left + side) * scale],
        )
        poor, clean = (np.rot90(each[:, ::-1] if mirrored else each, turns) for each in cut)
        return poor, clean
