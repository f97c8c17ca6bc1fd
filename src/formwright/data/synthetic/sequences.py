"""Labelled rows of token ids, and batches of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from formwright.batch import Batch, Inputs
from formwright.data.epochs import EpochBatches

Ids = NDArray[np.int16]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class LabelledSequences:
    """Rows of ids of one length and the class of each.

    Attributes:
        ids: ``(n, length)``, below ``vocabulary``; ``padding`` fills short rows, if there is such an id.
        labels: ``(n,)``, below ``classes``.
        pairs: whether a row holds two texts of half the length, which a model takes as ``first`` and ``second``.
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

    def inputs(self, rows: NDArray[np.int64]) -> Inputs:
        """What a model takes of these rows: ids, or the ids of both texts by name."""
        ids = torch.from_numpy(self.ids[rows].astype(np.int64))
        return dict(zip(("first", "second"), ids.chunk(2, dim=1), strict=True)) if self.pairs else ids

    def first(self, count: int) -> LabelledSequences:
        """At most so many rows from the beginning."""
        return dataclasses.replace(self, ids=self.ids[:count], labels=self.labels[:count])

    def last(self, count: int) -> LabelledSequences:
        """At most so many rows from the end."""
        return dataclasses.replace(self, ids=self.ids[-count:], labels=self.labels[-count:])

    def majority(self) -> float:
        """The share of the most frequent class: what anyone reaches who always says it."""
        return float(np.bincount(self.labels).max() / len(self.labels))


class SequenceBatches(EpochBatches):
    """Endless training batches, each epoch in another order."""

    def __init__(self, data: LabelledSequences, *, batch_size: int, seed: int = 0) -> None:
        super().__init__(len(data), batch_size=batch_size, seed=seed)
        self._data = data

    def take(self, chosen: NDArray[np.int64], epoch: int, position: int) -> Batch:
        return _batch(self._data, chosen)


def evaluation_sequences(data: LabelledSequences, batch_size: int) -> Iterator[Batch]:
    """All rows once, in order."""
    for start in range(0, len(data), batch_size):
        yield _batch(data, np.arange(start, min(start + batch_size, len(data))))


def _batch(data: LabelledSequences, rows: NDArray[np.int64]) -> Batch:
    return Batch(data.inputs(rows), torch.from_numpy(data.labels[rows]))
