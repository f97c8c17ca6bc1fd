"""Batches of inputs that lie in memory as they are taken: series on a grid, for one."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from formwright.batch import Batch
from formwright.data.epochs import EpochBatches
from formwright.errors import UserError


class ArrayBatches(EpochBatches):
    """Endless training batches of ``inputs (n, ...)`` and ``targets (n, ...)``, each row once an epoch."""

    def __init__(self, inputs: NDArray[Any], targets: NDArray[Any], *, batch_size: int, seed: int = 0) -> None:
        if len(inputs) != len(targets) or not len(inputs):
            raise UserError(
                f"There are {len(inputs)} inputs and {len(targets)} targets; as many, and some, are needed."
            )
        self._inputs = torch.from_numpy(np.ascontiguousarray(inputs, np.float32))
        self._targets = torch.from_numpy(np.ascontiguousarray(targets))
        super().__init__(len(inputs), batch_size=batch_size, seed=seed)

    def take(self, chosen: NDArray[np.int64], epoch: int, position: int) -> Batch:
        rows = torch.from_numpy(chosen)
        return Batch(self._inputs[rows], self._targets[rows])
