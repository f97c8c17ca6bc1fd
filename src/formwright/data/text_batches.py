"""Batches of texts as rows of token ids."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from formwright.batch import Batch
from formwright.data.epochs import EpochBatches
from formwright.data.token_rows import PADDING

#: Rows are cut to a multiple of this, so that shapes come again.
_ROUND = 8


class TextBatches(EpochBatches):
    """Endless training batches of rows of ids and of classes, each epoch in another order.

    A batch is as long as its longest text.

    Args:
        rows: ids ``(texts, length)``.
        labels: the class of each.
        drop: share of tokens that are left out of training texts, a regularisation.
    """

    samples: ClassVar[str] = "texts"

    def __init__(
        self, rows: NDArray[np.int64], labels: NDArray[np.int64], *, batch_size: int, seed: int = 0, drop: float = 0.0
    ) -> None:
        super().__init__(len(rows), batch_size=batch_size, seed=seed)
        self._rows, self._labels, self._drop = rows, labels, drop

    def take(self, chosen: NDArray[np.int64], epoch: int, position: int) -> Batch:
        rows = self._rows[chosen]
        if self._drop:
            rows = _without(rows, self._drop, np.random.default_rng([self._seed, epoch, position]))
        return Batch(torch.from_numpy(trimmed(rows)), torch.from_numpy(self._labels[chosen]))


def _without(rows: NDArray[np.int64], share: float, random: np.random.Generator) -> NDArray[np.int64]:
    """The rows without a share of their tokens, closed up; at least one is left."""
    kept = (random.random(rows.shape) >= share) & (rows != PADDING)
    kept[:, 0] |= ~kept.any(1)
    order = np.argsort(~kept, axis=1, kind="stable")
    return np.take_along_axis(np.where(kept, rows, PADDING), order, axis=1)


def trimmed(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows without columns at the end that hold padding only."""
    used = int((rows != PADDING).any(0).nonzero()[0].max(initial=0)) + 1
    return np.ascontiguousarray(rows[:, : min(-(-used // _ROUND) * _ROUND, rows.shape[1])])
