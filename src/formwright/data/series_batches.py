"""Windows of series as batches: the past that is read, and the truth that follows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from formwright.batch import Batch
from formwright.data.epochs import EpochBatches
from formwright.data.series import Part, SeriesData
from formwright.data.splits import evenly_spaced


class Windows:
    """All windows of a part of ``data``, over all of its series, stride 1.

    A window's inputs are ``(length, targets + covariates)``: targets and past covariates of the look-back, and
    covariates that are known ahead (calendar included) from ``min(length, horizon)`` steps later, so that they reach
    into the horizon (``shift`` is any other shift; the authors of iTransformer do not shift). Its targets are
    ``(horizon, targets)``, not a number where missing. With ``last``, the windows go on to the end of that part.
    """

    def __init__(self, data: SeriesData, part: Part, *, last: Part | None = None, shift: int | None = None) -> None:
        self.length, self.horizon = data.length, data.horizon
        self.variates = data.variates
        self.ahead = len(data.layout.known) + len(data.frequency.features)
        self.shift = min(self.length, self.horizon) if shift is None else shift
        inputs, targets, starts, owners, origins, row = [], [], [], [], [], 0
        for index in range(len(data.series)):
            own = data.origins(index, part, last)
            if not len(own):
                continue
            values, wanted = data.part_of(index, part, last)
            starts.append(row + np.arange(len(own)))
            owners.append(np.full(len(own), index))
            origins.append(own)
            inputs.append(values)
            targets.append(wanted)
            row += len(values)
        self.starts = np.concatenate(starts)
        #: the series that each window is of
        self.owners = np.concatenate(owners)
        #: the row of that series from which on is forecast
        self.origins = np.concatenate(origins)
        self._inputs = torch.from_numpy(np.concatenate(inputs)).float()
        self._targets = torch.from_numpy(np.concatenate(targets)).float()
        self._columns = self._inputs.shape[1]

    def __len__(self) -> int:
        return len(self.starts)

    def take(self, indices: np.typing.NDArray[np.int64]) -> Batch:
        """The windows ``indices`` as a batch: ``(batch, length, columns)`` and ``(batch, horizon, targets)``."""
        starts = torch.from_numpy(self.starts[indices])
        at_once = self._columns - self.ahead
        inputs = _gather(self._inputs[:, :at_once], starts, self.length)
        if self.ahead:
            ahead = _gather(self._inputs[:, at_once:], starts + self.shift, self.length)
            inputs = torch.cat([inputs, ahead], dim=2)
        return Batch(inputs, _gather(self._targets, starts + self.length, self.horizon))


def _gather(values: Tensor, starts: Tensor, steps: int) -> Tensor:
    """``(windows, steps, columns)`` of ``(rows, columns)``."""
    return values.unfold(0, steps, 1).index_select(0, starts).transpose(1, 2)


class SeriesBatches(EpochBatches):
    """Endless training batches of windows, each window once an epoch in a new order."""

    samples: ClassVar[str] = "windows"

    def __init__(self, windows: Windows, *, batch_size: int, seed: int = 0) -> None:
        super().__init__(len(windows), batch_size=batch_size, seed=seed)
        self._windows = windows

    def take(self, chosen: NDArray[np.int64], epoch: int, position: int) -> Batch:
        return self._windows.take(chosen)


def evaluation_windows(windows: Windows, *, batch_size: int = 256, most: int | None = None) -> Iterator[Batch]:
    """All windows once, in order; with ``most``, so many at most, evenly spaced."""
    indices = np.arange(len(windows))
    if most is not None:
        indices = evenly_spaced(indices, most)
    for start in range(0, len(indices), batch_size):
        yield windows.take(indices[start : start + batch_size])
