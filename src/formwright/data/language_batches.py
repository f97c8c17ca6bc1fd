"""Endless windows of a running text."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from formwright.batch import Batch
from formwright.data.epochs import EpochBatches
from formwright.errors import UserError


class LanguageBatches(EpochBatches):
    """Windows of ``length`` ids and what comes next, each epoch cut at other places and in another order.

    Raises:
        UserError: the text is shorter than two windows.
    """

    samples: ClassVar[str] = "windows"

    def __init__(self, ids: NDArray[np.int64], length: int, *, batch_size: int, seed: int = 0) -> None:
        windows = (len(ids) - 1) // length - 1  # one less: epochs begin at a place of their own
        if windows < 1:
            raise UserError(f"A text of {len(ids)} tokens is too short for windows of {length}; give a longer one.")
        super().__init__(windows, batch_size=batch_size, seed=seed)
        self._ids, self._length = ids, length

    def take(self, chosen: NDArray[np.int64], epoch: int, position: int) -> Batch:
        offset = int(np.random.default_rng([self._seed, epoch, len(self)]).integers(0, self._length))
        places = offset + chosen[:, None] * self._length + np.arange(self._length)
        return Batch(torch.from_numpy(self._ids[places]), torch.from_numpy(self._ids[places + 1]))

    def _identity(self) -> dict[str, int]:
        return {**super()._identity(), "length": self._length}
