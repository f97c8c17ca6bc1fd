"""Batches for training and evaluation: normalised, channels last, the same again under the same seed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor

from formwright.batch import Batch
from formwright.data.augmentation import Augmentation, erase, gather_views, mix
from formwright.data.epochs import EpochBatches
from formwright.data.images import ImageData
from formwright.data.splits import evenly_spaced

#: Sets the draw of what is mirrored in the first epoch apart from those of the batches.
_MIRRORED = 1_000_003


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


class Batches(EpochBatches):
    """Endless training batches of ``images`` (uint8 ``(n, height, width, channels)``) and ``labels``, the
    class of each (int64 ``(n,)``) or its share of each class (``(n, classes)``).

    Each epoch takes the pictures ``indices`` (all, if None) once in a new order; a last incomplete batch is left for
    the next epoch's order to include, unless there are fewer pictures than ``batch_size``, which then is their number.
    A batch depends on the seed and its step alone, so a run that continues from ``state_dict`` gets bit-equal batches.
    """

    samples: ClassVar[str] = "pictures"

    def __init__(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[Any],
        *,
        batch_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        classes: int,
        indices: NDArray[np.int64] | None = None,
        seed: int = 0,
        augmentation: Augmentation | None = None,
    ) -> None:
        self._images = _as_tensor(images)
        self._labels = _as_tensor(labels)
        self._indices = np.arange(len(images)) if indices is None else np.asarray(indices, np.int64)
        super().__init__(len(self._indices), batch_size=batch_size, seed=seed)
        self._mean, self._std, self._classes = tuple(mean), tuple(std), classes
        self._augmentation = augmentation or Augmentation()
        self._mirrored_first = np.random.default_rng([seed, _MIRRORED]).random(len(self._indices)) < 0.5

    def take(self, chosen: NDArray[np.int64], epoch: int, position: int) -> Batch:
        pictures = torch.from_numpy(self._indices[chosen])
        random = np.random.default_rng([self._seed, epoch, position])
        augmentation = self._augmentation
        mirrored = torch.from_numpy(self._mirrored_first[chosen] ^ bool(epoch % 2)) if augmentation.flip else None
        views = gather_views(self._images, pictures, augmentation, random, mirrored)
        images = normalise(views, self._mean, self._std)
        labels = self._labels.index_select(0, pictures)
        if augmentation.erase > 0:
            erase(images, augmentation.erase, random)
        if augmentation.mixup > 0 or augmentation.cutmix > 0:
            images, labels = mix(images, labels, self._classes, augmentation, random)
        return Batch(images, labels)


def training_batches(
    data: ImageData,
    *,
    batch_size: int,
    seed: int = 0,
    augmentation: Augmentation | None = None,
    parts: Sequence[str] = ("train",),
    targets: NDArray[np.float32] | None = None,
) -> Batches:
    """Endless, shuffled batches of the training part of ``data``, or of several parts together.

    Args:
        targets: what is learned of these pictures in place of their classes: shares of all classes.
    """
    indices = np.concatenate([data.split.part(part) for part in parts])
    labels: NDArray[Any] = data.labels
    if targets is not None:
        labels = np.zeros((len(data.labels), data.classes), np.float32)
        labels[indices] = targets
    return Batches(
        data.images,
        labels,
        batch_size=batch_size,
        mean=data.mean,
        std=data.std,
        classes=data.classes,
        indices=indices,
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
