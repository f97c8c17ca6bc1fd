"""Endless training batches that go through all samples once an epoch and can be continued where they stopped."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from formwright.batch import Batch
from formwright.errors import UserError


class EpochBatches(ABC):
    """Endless batches of ``count`` samples, each once an epoch in a new order.

    A batch depends on the seed and its step alone, so a run that continues from ``state_dict`` gets bit-equal batches.
    A last incomplete batch is left for the next epoch's order to include; with fewer samples than ``batch_size``, that
    is their number.

    Raises:
        UserError: the batch size is below one, or there are no samples.
    """

    #: How samples are called in messages and in the state.
    samples: ClassVar[str] = "rows"

    def __init__(self, count: int, *, batch_size: int, seed: int) -> None:
        if batch_size < 1:
            raise UserError(f"A batch size of {batch_size} was asked for; at least 1 is expected.")
        if count < 1:
            raise UserError(f"There are no {self.samples} to make batches of; at least one is expected.")
        self._count, self._seed = count, seed
        self.batch_size = min(batch_size, count)
        self.step = 0
        self._order: tuple[int, NDArray[np.int64]] = (-1, np.arange(0))

    @abstractmethod
    def take(self, chosen: NDArray[np.int64], epoch: int, position: int) -> Batch:
        """The batch of the samples ``chosen``, the one at ``position`` in its epoch."""

    def arranged(self, random: np.random.Generator) -> NDArray[np.int64]:
        """The samples in the order of an epoch: batches are cut from it, from the start."""
        return random.permutation(self._count)

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        return self._count // self.batch_size

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        batch = self.batch(self.step)
        self.step += 1
        return batch

    @property
    def epoch(self) -> float:
        """Epochs completed; the fraction is the place in the current one."""
        return self.step / len(self)

    def batch(self, step: int) -> Batch:
        """The batch of ``step`` (from 0), whatever was taken before."""
        epoch, position = divmod(step, len(self))
        if self._order[0] != epoch:
            self._order = (epoch, self.arranged(np.random.default_rng([self._seed, epoch])))
        start = position * self.batch_size
        return self.take(self._order[1][start : start + self.batch_size], epoch, position)

    def state_dict(self) -> dict[str, int]:
        """What :meth:`load_state_dict` needs to continue: plain numbers, fit for JSON."""
        return {**self._identity(), "step": self.step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state`` was taken.

        Raises:
            UserError: it was taken with another seed, batch size or number of samples.
        """
        for name, value in self._identity().items():
            if state.get(name) != value:
                raise UserError(
                    f"The batches to continue have {name} {state.get(name)} but these have {value}; the same are "
                    "expected: give the same data and options, or start a new run."
                )
        self.step = int(state["step"])

    def _identity(self) -> dict[str, int]:
        return {"seed": self._seed, "batch_size": self.batch_size, self.samples: self._count}
