"""Batches of texts as rows of token ids."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from formwright.batch import Batch
from formwright.data.token_rows import PADDING
from formwright.errors import UserError

#: Rows are cut to a multiple of this, so that shapes come again.
_ROUND = 8


class TextBatches:
    """Endless training batches of rows of ids and of classes, each epoch in another order.

    A batch is as long as its longest text. It depends on the seed and its step alone, so a run that continues from
    ``state_dict`` gets the same batches.

    Args:
        rows: ids ``(texts, length)``.
        labels: the class of each.
        drop: share of tokens that are left out of training texts, a regularisation.
    """

    def __init__(
        self, rows: NDArray[np.int64], labels: NDArray[np.int64], *, batch_size: int, seed: int = 0, drop: float = 0.0
    ) -> None:
        self._rows, self._labels = rows, labels
        self._seed, self._drop = seed, drop
        self.batch_size = min(batch_size, len(rows))
        self.step = 0

    def __len__(self) -> int:
        return len(self._rows) // self.batch_size

    def __iter__(self) -> TextBatches:
        return self

    def __next__(self) -> Batch:
        epoch, position = divmod(self.step, len(self))
        self.step += 1
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._rows))
        chosen = order[position * self.batch_size : (position + 1) * self.batch_size]
        rows = self._rows[chosen]
        if self._drop:
            rows = _without(rows, self._drop, np.random.default_rng([self._seed, epoch, position]))
        return Batch(torch.from_numpy(trimmed(rows)), torch.from_numpy(self._labels[chosen]))

    def state_dict(self) -> dict[str, int]:
        """What :meth:`load_state_dict` needs to continue."""
        return {**self._identity(), "step": self.step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state`` was taken.

        Raises:
            UserError: it was taken with another seed, batch size or number of texts.
        """
        if any(state.get(name) != value for name, value in self._identity().items()):
            raise UserError("The batches to continue are of other data or options; give the same, or start a new run.")
        self.step = int(state["step"])

    def _identity(self) -> dict[str, int]:
        return {"seed": self._seed, "batch_size": self.batch_size, "texts": len(self._rows)}


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


def evaluation_rows(rows: NDArray[np.int64], labels: NDArray[np.int64], batch_size: int) -> Iterator[Batch]:
    """All rows once, in order, at their full length, as an exported model takes them."""
    for start in range(0, len(rows), batch_size):
        stop = start + batch_size
        yield Batch(torch.from_numpy(rows[start:stop]), torch.from_numpy(labels[start:stop]))
