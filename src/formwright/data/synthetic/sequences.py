"""Labelled rows of token ids, and batches of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from formwright.batch import Batch
from formwright.errors import UserError

Ids = NDArray[np.int16]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class LabelledSequences:
    """Rows of ids of one length and the class of each.

    Attributes:
        ids: ``(n, length)``, below ``vocabulary``; ``padding`` fills short rows, if there is such an id.
        labels: ``(n,)``, below ``classes``.
        pairs: whether a row holds two texts of half the length.
        source: what they were made of, as a person would say it.
    """

    ids: Ids
    labels: Labels
    vocabulary: int
    classes: int
    padding: int | None
    source: str
    pairs: bool = False

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def length(self) -> int:
        return int(self.ids.shape[1])

    def first(self, count: int) -> LabelledSequences:
        """At most so many rows from the beginning."""
        return dataclasses.replace(self, ids=self.ids[:count], labels=self.labels[:count])

    def last(self, count: int) -> LabelledSequences:
        """At most so many rows from the end."""
        return dataclasses.replace(self, ids=self.ids[-count:], labels=self.labels[-count:])

    def majority(self) -> float:
        """The share of the most frequent class: what anyone reaches who always says it."""
        return float(np.bincount(self.labels).max() / len(self.labels))


class SequenceBatches:
    """Endless training batches, each epoch in another order; a batch depends on the seed and its step alone."""

    def __init__(self, data: LabelledSequences, *, batch_size: int, seed: int = 0) -> None:
        if batch_size < 1:
            raise UserError(f"A batch size of {batch_size} was asked for; at least 1 is expected.")
        self._data, self._seed = data, seed
        self.batch_size = min(batch_size, len(data))
        self.step = 0
        self._order: tuple[int, NDArray[np.int64]] = (-1, np.arange(0))

    def __iter__(self) -> SequenceBatches:
        return self

    def __next__(self) -> Batch:
        epoch, position = divmod(self.step, len(self._data) // self.batch_size)
        if self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng([self._seed, epoch]).permutation(len(self._data)))
        self.step += 1
        return _batch(self._data, self._order[1][position * self.batch_size : (position + 1) * self.batch_size])

    def state_dict(self) -> dict[str, int]:
        """What :meth:`load_state_dict` needs to continue."""
        return {"seed": self._seed, "batch_size": self.batch_size, "rows": len(self._data), "step": self.step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state`` was taken.

        Raises:
            UserError: it was taken with another seed, batch size or number of rows.
        """
        own = {**self.state_dict(), "step": state.get("step")}
        if own != dict(state):
            raise UserError("The batches to continue are of other data or options; give the same, or start a new run.")
        self.step = int(state["step"])


def evaluation_sequences(data: LabelledSequences, batch_size: int) -> Iterator[Batch]:
    """All rows once, in order."""
    for start in range(0, len(data), batch_size):
        yield _batch(data, np.arange(start, min(start + batch_size, len(data))))


def _batch(data: LabelledSequences, rows: NDArray[np.int64]) -> Batch:
    return Batch(torch.from_numpy(data.ids[rows].astype(np.int64)), torch.from_numpy(data.labels[rows]))
