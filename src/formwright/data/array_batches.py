"""Batches of inputs that lie in memory as they are taken: series on a grid, for one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from formwright.batch import Batch
from formwright.errors import UserError


class ArrayBatches:
    """Endless training batches of ``inputs (n, ...)`` and ``targets (n, ...)``, each row once an epoch in a new order.

    A batch depends on the seed and its step alone, so a run that continues from ``state_dict`` gets bit-equal batches.
    A last incomplete batch is left for the next epoch's order to include.
    """

    def __init__(self, inputs: NDArray[Any], targets: NDArray[Any], *, batch_size: int, seed: int = 0) -> None:
        if batch_size < 1:
            raise UserError(f"A batch size of {batch_size} was asked for; at least 1 is expected.")
        if len(inputs) != len(targets) or not len(inputs):
            raise UserError(
                f"There are {len(inputs)} inputs and {len(targets)} targets; as many, and some, are needed."
            )
        self._inputs = torch.from_numpy(np.ascontiguousarray(inputs, np.float32))
        self._targets = torch.from_numpy(np.ascontiguousarray(targets))
        self._seed = seed
        self.batch_size = min(batch_size, len(inputs))
        self.step = 0
        self._order: tuple[int, NDArray[np.int64]] = (-1, np.arange(0))

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        return len(self._inputs) // self.batch_size

    def __iter__(self) -> ArrayBatches:
        return self

    def __next__(self) -> Batch:
        batch = self.batch(self.step)
        self.step += 1
        return batch

    def batch(self, step: int) -> Batch:
        """The batch of ``step`` (from 0), whatever was taken before."""
        epoch, position = divmod(step, len(self))
        if self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng([self._seed, epoch]).permutation(len(self._inputs)))
        start = position * self.batch_size
        chosen = torch.from_numpy(self._order[1][start : start + self.batch_size])
        return Batch(self._inputs[chosen], self._targets[chosen])

    def state_dict(self) -> dict[str, int]:
        """What :meth:`load_state_dict` needs to continue: plain numbers, fit for JSON."""
        return {**self._identity(), "step": self.step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state`` was taken.

        Raises:
            UserError: it was taken with another seed, batch size or number of rows.
        """
        for name, value in self._identity().items():
            if state.get(name) != value:
                raise UserError(
                    f"The batches to continue have {name} {state.get(name)} but these have {value}; the same are "
                    "expected: give the same data and options, or start a new run."
                )
        self.step = int(state["step"])

    def _identity(self) -> dict[str, int]:
        return {"seed": self._seed, "batch_size": self.batch_size, "rows": len(self._inputs)}
