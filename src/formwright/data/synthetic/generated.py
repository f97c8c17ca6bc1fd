"""Endless batches that are made, not read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from formwright.batch import Batch


class GeneratedBatches:
    """Endless batches of a generator; a batch depends on the seed and its step alone.

    Args:
        make: the batch that a source of chance gives.
        seed: decides all batches.
    """

    def __init__(self, make: Callable[[torch.Generator], Batch], *, seed: int = 0) -> None:
        self._make, self.seed = make, seed
        self.step = 0

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        self.step += 1
        mixed = int(np.random.SeedSequence([self.seed, self.step]).generate_state(1)[0])  # PyTorch uses 32 bits of it
        return self._make(torch.Generator().manual_seed(mixed))

    def state_dict(self) -> dict[str, Any]:
        """What :meth:`load_state_dict` needs to continue."""
        return {"seed": self.seed, "step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where ``state`` was taken."""
        self.seed, self.step = int(state["seed"]), int(state["step"])
