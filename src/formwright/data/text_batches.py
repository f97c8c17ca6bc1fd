"""Batches of texts as rows of token ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from formwright.batch import Batch
from formwright.data.epochs import EpochBatches
from formwright.data.token_rows import PADDING

#: Batches whose texts are sorted by length together.
TOGETHER = 32
#: Rows are cut to a multiple of this, so that shapes come again.
_ROUND = 8


class TextBatches(EpochBatches):
    """Endless training batches of rows of ids and of classes, each epoch in another order.

    A batch is as long as its longest text, and its texts are of about the same length: of the texts of
    :data:`TOGETHER` batches, the shortest make the first one, and so on; then the batches are shuffled.

    Args:
        rows: ids ``(texts, length)``.
        labels: the class of each.
        drop: share of tokens that are left out of training texts, a regularisation.
        padding: the id that is no token.
        special: ids that are never left out.
    """

    samples: ClassVar[str] = "texts"

    def __init__(
        self,
        rows: NDArray[np.int64],
        labels: NDArray[Any],
        *,
        batch_size: int,
        seed: int = 0,
        drop: float = 0.0,
        padding: int = PADDING,
        special: Sequence[int] = (),
    ) -> None:
        super().__init__(len(rows), batch_size=batch_size, seed=seed)
        self._rows, self._labels, self._drop, self._padding, self._special = rows, labels, drop, padding, list(special)
        self._lengths = (rows != padding).sum(1)

    def arranged(self, random: np.random.Generator) -> NDArray[np.int64]:
        order = super().arranged(random)
        whole = len(self) * self.batch_size
        pools = np.split(order[:whole], range(TOGETHER * self.batch_size, whole, TOGETHER * self.batch_size))
        by_length = np.concatenate([pool[np.argsort(self._lengths[pool], kind="stable")] for pool in pools])
        batches = by_length.reshape(len(self), self.batch_size)[random.permutation(len(self))]
        return np.concatenate([batches.ravel(), order[whole:]])

    def take(self, chosen: NDArray[np.int64], epoch: int, position: int) -> Batch:
        rows = self._rows[chosen]
        if self._drop:
            random = np.random.default_rng([self._seed, epoch, position])
            rows = without(rows, self._drop, random, padding=self._padding, special=self._special)
        return Batch(torch.from_numpy(trimmed(rows, self._padding)), torch.from_numpy(self._labels[chosen]))


def without(
    rows: NDArray[np.int64],
    share: float,
    random: np.random.Generator,
    *,
    padding: int = PADDING,
    special: Sequence[int] = (),
) -> NDArray[np.int64]:
    """The rows without a share of their tokens, closed up; ``special`` ones stay, and at least one."""
    kept = (random.random(rows.shape) >= share) & (rows != padding)
    if special:
        kept |= np.isin(rows, special) & (rows != padding)
    kept[:, 0] |= ~kept.any(1)
    order = np.argsort(~kept, axis=1, kind="stable")
    return np.take_along_axis(np.where(kept, rows, padding), order, axis=1)


def trimmed(rows: NDArray[np.int64], padding: int = PADDING) -> NDArray[np.int64]:
    """The rows without columns at the end that hold padding only."""
    used = int((rows != padding).any(0).nonzero()[0].max(initial=0)) + 1
    return np.ascontiguousarray(rows[:, : min(-(-used // _ROUND) * _ROUND, rows.shape[1])])
