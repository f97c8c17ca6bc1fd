"""Pictures with objects to be found: their boxes and classes, any number of them, and batches of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from formwright.batch import Batch
from formwright.data.batches import normalise
from formwright.data.epochs import EpochBatches
from formwright.data.joint_augmentation import JointAugmentation, Scene, augment
from formwright.errors import UserError
from formwright.nn.functional.boxes import NO_OBJECT, check_boxes

#: Brightnesses from 0 to 255 become ``(x / 255 - 0.5) / 0.25``.
MEAN, STD = (0.5,) * 3, (0.25,) * 3


@dataclass(frozen=True)
class DetectionData:
    """Pictures of one size and the objects in them; rows behind a picture's objects are filled up.

    Attributes:
        images: ``(n, height, width, 3)``, from 0 to 255.
        objects: the class of each object ``(n, most)``, ``NO_OBJECT`` where there is none.
        boxes: centre, width and height of each as shares of the picture's sides ``(n, most, 4)``.
        classes: how many classes there are.
        masks: for each pixel ``(n, height, width)``, 1 plus the row of the object that it belongs to, or 0.

    Raises:
        UserError: shapes do not fit, a class is out of range, or a box does not lie inside its picture.
    """

    images: NDArray[np.uint8]
    objects: NDArray[np.int64]
    boxes: NDArray[np.float32]
    classes: int
    masks: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        count, most = self.objects.shape
        if self.images.shape[:1] != (count,) or self.images.ndim != 4 or self.boxes.shape != (count, most, 4):
            raise UserError(
                f"Pictures (n, height, width, 3) have objects (n, most) and boxes (n, most, 4); got "
                f"{self.images.shape}, {self.objects.shape} and {self.boxes.shape}."
            )
        there = self.objects != NO_OBJECT
        known = self.objects[there]
        if known.size and not 0 <= known.min() <= known.max() < self.classes:
            raise UserError(
                f"There are {self.classes} classes, from 0, and objects of classes from {known.min()} to "
                f"{known.max()}; rows without an object have {NO_OBJECT}."
            )
        check_boxes(torch.from_numpy(self.boxes[there]))


class DetectionBatches(EpochBatches):
    """Endless batches of pictures, and of targets by name: ``classes (batch, most)`` and ``boxes (batch, most, 4)``.

    With an ``augmentation``, pictures and boxes are changed together, by chance that the seed and the step decide.
    """

    samples: ClassVar[str] = "pictures"

    def __init__(
        self,
        data: DetectionData,
        *,
        batch_size: int,
        seed: int = 0,
        augmentation: JointAugmentation | None = None,
    ) -> None:
        super().__init__(len(data.images), batch_size=batch_size, seed=seed)
        self._data, self._augmentation = data, augmentation

    def take(self, chosen: NDArray[np.int64], epoch: int, position: int) -> Batch:
        scene = _scene(self._data, chosen)
        if self._augmentation is not None:
            scene = augment(scene, self._augmentation, np.random.default_rng([self._seed, epoch, position]))
        return _batch(scene)


def detection_batches(data: DetectionData, *, batch_size: int = 64) -> Iterator[Batch]:
    """All pictures once, in order, unchanged."""
    for start in range(0, len(data.images), batch_size):
        yield _batch(_scene(data, slice(start, start + batch_size)))


def _scene(data: DetectionData, rows: Any) -> Scene:
    return Scene(
        torch.from_numpy(data.images[rows]), torch.from_numpy(data.objects[rows]), torch.from_numpy(data.boxes[rows])
    )


def _batch(scene: Scene) -> Batch:
    return Batch(normalise(scene.images, MEAN, STD), {"classes": scene.objects, "boxes": scene.boxes})
