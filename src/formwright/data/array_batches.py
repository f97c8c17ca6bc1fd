"""Batches of inputs that lie in memory as they are taken: series on a grid, for one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from formwright.batch import Batch, Inputs
from formwright.data.epochs import EpochBatches
from formwright.data.splits import evenly_spaced
from formwright.errors import UserError

Arrays: TypeAlias = NDArray[Any] | Mapping[str, NDArray[Any]]


class ArrayBatches(EpochBatches):
    """Endless training batches of ``inputs (n, ...)`` and ``targets (n, ...)``, each row once per epoch.

    Both are an array, or several by name. Inputs become float32 unless they are whole numbers.
    """

    def __init__(self, inputs: Arrays, targets: Arrays, *, batch_size: int, seed: int = 0) -> None:
        count = len(_first(inputs))
        counts = {len(array) for each in (inputs, targets) for array in _all(each)}
        if counts != {count} or not count:
            raise UserError(
                f"There are {count} inputs and {len(_first(targets))} targets; as many, and some, are needed."
            )
        self._inputs = _tensors(inputs, lambda a: a if np.issubdtype(a.dtype, np.integer) else a.astype(np.float32))
        self._targets = _tensors(targets, lambda a: a)
        super().__init__(count, batch_size=batch_size, seed=seed)

    def take(self, chosen: NDArray[np.int64], epoch: int, position: int) -> Batch:
        rows = torch.from_numpy(chosen)
        return Batch(_rows(self._inputs, rows), _rows(self._targets, rows))


def in_order(
    inputs: NDArray[Any], targets: NDArray[Any], *, batch_size: int, most: int | None = None
) -> Iterator[Batch]:
    """The rows once, in order; with ``most``, so many at most, evenly spaced."""
    chosen = np.arange(len(inputs))
    if most is not None:
        chosen = evenly_spaced(chosen, most)
    for start in range(0, len(chosen), batch_size):
        rows = chosen[start : start + batch_size]
        yield Batch(torch.from_numpy(inputs[rows]), torch.from_numpy(targets[rows]))


def _all(arrays: Arrays) -> list[NDArray[Any]]:
    return list(arrays.values()) if isinstance(arrays, Mapping) else [arrays]


def _first(arrays: Arrays) -> NDArray[Any]:
    return _all(arrays)[0]


def _tensors(arrays: Arrays, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Inputs:
    def tensor(array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(change(np.asarray(array))))

    if isinstance(arrays, Mapping):
        return {name: tensor(array) for name, array in arrays.items()}
    return tensor(arrays)


def _rows(tensors: Inputs, rows: Tensor) -> Inputs:
    if isinstance(tensors, Mapping):
        return {name: each[rows] for name, each in tensors.items()}
    return tensors[rows]
