"""Batches for training and evaluation: normalised, channels last, the same again under the same seed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor

from formwright.batch import Batch
from formwright.data.augmentation import Augmentation, erase, gather_views, mix
from formwright.data.images import ImageData
from formwright.data.splits import evenly_spaced
from formwright.errors import UserError


def normalise(
    images: UInt8[Tensor, "batch height width channels"], mean: Sequence[float], std: Sequence[float]
) -> Float[Tensor, "batch channels height width"]:
    """``(x / 255 - mean) / std`` per channel, as a channels-first view of channels-last memory."""
    batch, height, width, channels = images.shape
    # A whole row of pixels at a time: arithmetic along an axis of three is several times slower.
    shift = torch.tensor([255.0 * value for value in mean]).repeat(width)
    scale = torch.tensor([1.0 / (255.0 * value) for value in std]).repeat(width)
    rows = images.reshape(batch, height, width * channels).to(torch.float32).sub_(shift).mul_(scale)
    return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)


class Batches:
    """Endless training batches of ``images`` (uint8 ``(n, height, width, channels)``) and ``labels`` (int64 ``(n,)``).

    Each epoch takes the pictures ``indices`` (all, if None) once in a new order; a last incomplete batch is left for
    the next epoch's order to include, unless there are fewer pictures than ``batch_size``, which then is their number.
    A batch depends on the seed and its step alone, so a run that continues from ``state_dict`` gets bit-equal batches.
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.int64],
        *,
        batch_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        classes: int,
        indices: NDArray[np.int64] | None = None,
        seed: int = 0,
        augmentation: Augmentation | None = None,
    ) -> None:
        if batch_size < 1:
            raise UserError(f"A batch size of {batch_size} was asked for; at least 1 is expected.")
        self._images = _as_tensor(images)
        self._labels = _as_tensor(labels)
        self._indices = np.arange(len(images)) if indices is None else np.asarray(indices, np.int64)
        if not len(self._indices):
            raise UserError("There are no pictures to make batches of; at least one is expected.")
        self._mean, self._std, self._classes = tuple(mean), tuple(std), classes
        self._seed = seed
        self._augmentation = augmentation or Augmentation()
        self.batch_size = min(batch_size, len(self._indices))
        self.step = 0
        self._order: tuple[int, NDArray[np.int64]] = (-1, self._indices)

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        return len(self._indices) // self.batch_size

    def __iter__(self) -> Batches:
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
            shuffle = np.random.default_rng([self._seed, epoch])
            self._order = (epoch, shuffle.permutation(self._indices))
        start = position * self.batch_size
        chosen = torch.from_numpy(self._order[1][start : start + self.batch_size])
        random = np.random.default_rng([self._seed, epoch, position])
        augmentation = self._augmentation
        images = normalise(gather_views(self._images, chosen, augmentation, random), self._mean, self._std)
        labels = self._labels.index_select(0, chosen)
        if augmentation.erase > 0:
            erase(images, augmentation.erase, random)
        if augmentation.mixup > 0 or augmentation.cutmix > 0:
            images, labels = mix(images, labels, self._classes, augmentation, random)
        return Batch(images, labels)

    def state_dict(self) -> dict[str, int]:
        """What :meth:`load_state_dict` needs to continue: plain numbers, fit for JSON."""
        return {**self._identity(), "step": self.step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state`` was taken.

        Raises:
            UserError: it was taken with another seed, batch size or number of pictures.
        """
        for name, value in self._identity().items():
            if state.get(name) != value:
                raise UserError(
                    f"The batches to continue have {name} {state.get(name)} but these have {value}; the same are "
                    "expected: give the same data and options, or start a new run."
                )
        self.step = int(state["step"])

    def _identity(self) -> dict[str, int]:
        return {"seed": self._seed, "batch_size": self.batch_size, "pictures": len(self._indices)}


def training_batches(
    data: ImageData, *, batch_size: int, seed: int = 0, augmentation: Augmentation | None = None
) -> Batches:
    """Endless, shuffled batches of the training part of ``data``."""
    return Batches(
        data.images,
        data.labels,
        batch_size=batch_size,
        mean=data.mean,
        std=data.std,
        classes=data.classes,
        indices=data.split.train,
        seed=seed,
        augmentation=augmentation,
    )


def evaluation_batches(
    data: ImageData, part: str, *, batch_size: int = 256, most: int | None = None
) -> Iterator[Batch]:
    """The pictures of a part (``"train"``, ``"val"`` or ``"test"``) once, in order, unchanged.

    With ``most``, so many at most, evenly spaced: the pictures of a folder are ordered by class.
    """
    images, labels = _as_tensor(data.images), _as_tensor(data.labels)
    chosen_part = data.split.part(part)
    indices = torch.from_numpy(chosen_part if most is None else evenly_spaced(chosen_part, most))
    for chosen in torch.split(indices, batch_size):
        pictures = images.index_select(0, chosen)
        yield Batch(normalise(pictures, data.mean, data.std), labels.index_select(0, chosen))


def _as_tensor(array: NDArray[Any]) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable")  # it is only read
        return torch.from_numpy(np.ascontiguousarray(array))
