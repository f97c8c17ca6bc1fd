"""Endless windows of a running text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from formwright.batch import Batch
from formwright.errors import UserError


class LanguageBatches:
    """Windows of ``length`` ids and what comes next, each epoch cut at other places and in another order.

    A batch depends on the seed and its step alone, so a run that continues from ``state_dict`` gets the same batches.
    """

    def __init__(self, ids: NDArray[np.int64], length: int, *, batch_size: int, seed: int = 0) -> None:
        self._ids, self._length, self._seed = ids, length, seed
        self._windows = (len(ids) - 1) // length - 1  # one less: epochs begin at a place of their own
        if self._windows < 1:
            raise UserError(f"A text of {len(ids)} tokens is too short for windows of {length}; give a longer one.")
        self.batch_size = min(batch_size, self._windows)
        self.step = 0

    def __len__(self) -> int:
        return self._windows // self.batch_size

    def __iter__(self) -> LanguageBatches:
        return self

    def __next__(self) -> Batch:
        epoch, position = divmod(self.step, len(self))
        self.step += 1
        random = np.random.default_rng([self._seed, epoch])
        offset = int(random.integers(0, self._length))
        chosen = random.permutation(self._windows)[position * self.batch_size : (position + 1) * self.batch_size]
        places = offset + chosen[:, None] * self._length + np.arange(self._length)
        return Batch(torch.from_numpy(self._ids[places]), torch.from_numpy(self._ids[places + 1]))

    def state_dict(self) -> dict[str, int]:
        """What :meth:`load_state_dict` needs to continue."""
        return {**self._identity(), "step": self.step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state`` was taken.

        Raises:
            UserError: it was taken with another seed, batch size, length or text.
        """
        if any(state.get(name) != value for name, value in self._identity().items()):
            raise UserError("The batches to continue are of other data or options; give the same, or start a new run.")
        self.step = int(state["step"])

    def _identity(self) -> dict[str, int]:
        return {
            "seed": self._seed,
            "batch_size": self.batch_size,
            "length": self._length,
            "windows": self._windows,
        }
