"""Windows of series as batches: what is looked back on, and what came then."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from formwright.batch import Batch
from formwright.data.series import Part, SeriesData, window_count
from formwright.data.splits import evenly_spaced
from formwright.errors import UserError


class Windows:
    """All windows of a part of ``data``, over all of its series, stride 1.

    A window's inputs are ``(length, targets + covariates)``: targets and past covariates of the look-back, and
    covariates that are known ahead (calendar included) from ``min(length, horizon)`` steps later, so that they reach
    into the horizon (``shift`` is another number of steps; the authors of iTransformer do not shift). Its targets are
    ``(horizon, targets)``, not a number where missing.
    """

    def __init__(self, data: SeriesData, part: Part, *, shift: int | None = None) -> None:
        self.length, self.horizon = data.length, data.horizon
        self.variates = data.variates
        self.ahead = len(data.layout.known) + len(data.frequency.features)
        self.shift = min(self.length, self.horizon) if shift is None else shift
        inputs, targets, starts, owners, origins, row = [], [], [], [], [], 0
        for index, (series, scaling) in enumerate(zip(data.series, data.scalings, strict=True)):
            values, wanted = data.part_of(series, scaling, part)
            count = window_count(data, series, part)
            starts.append(row + np.arange(count))
            owners.append(np.full(count, index))
            origins.append(data.rows(series, part)[0] + data.length + np.arange(count))
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
    if len(values) < steps:
        return values.new_zeros(len(starts), steps, values.shape[1])
    return values.unfold(0, steps, 1).index_select(0, starts).transpose(1, 2)


class SeriesBatches:
    """Endless training batches of windows, each window once an epoch in a new order.

    A batch depends on the seed and its step alone, so a run that continues from ``state_dict`` gets bit-equal batches.
    A last incomplete batch is left for the next epoch's order to include.
    """

    def __init__(self, windows: Windows, *, batch_size: int, seed: int = 0) -> None:
        if batch_size < 1:
            raise UserError(f"A batch size of {batch_size} was asked for; at least 1 is expected.")
        self._windows, self._seed = windows, seed
        self.batch_size = min(batch_size, len(windows))
        self.step = 0
        self._order: tuple[int, np.typing.NDArray[np.int64]] = (-1, np.arange(0))

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        return len(self._windows) // self.batch_size

    def __iter__(self) -> SeriesBatches:
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
            self._order = (epoch, np.random.default_rng([self._seed, epoch]).permutation(len(self._windows)))
        start = position * self.batch_size
        return self._windows.take(self._order[1][start : start + self.batch_size])

    def state_dict(self) -> dict[str, int]:
        """What :meth:`load_state_dict` needs to continue: plain numbers, fit for JSON."""
        return {**self._identity(), "step": self.step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state`` was taken.

        Raises:
            UserError: it was taken with another seed, batch size or number of windows.
        """
        for name, value in self._identity().items():
            if state.get(name) != value:
                raise UserError(
                    f"The batches to continue have {name} {state.get(name)} but these have {value}; the same are "
                    "expected: give the same data and options, or start a new run."
                )
        self.step = int(state["step"])

    def _identity(self) -> dict[str, int]:
        return {"seed": self._seed, "batch_size": self.batch_size, "windows": len(self._windows)}


def evaluation_windows(windows: Windows, *, batch_size: int = 256, most: int | None = None) -> Iterator[Batch]:
    """All windows once, in order; with ``most``, so many at most, evenly spaced."""
    indices = np.arange(len(windows))
    if most is not None:
        indices = evenly_spaced(indices, most)
    for start in range(0, len(indices), batch_size):
        yield windows.take(indices[start : start + batch_size])
