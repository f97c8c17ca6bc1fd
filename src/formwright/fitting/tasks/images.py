"""Classification of images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from formwright.batch import Batch
from formwright.data.augmentation import Augmentation, infer_augmentation
from formwright.data.batches import Batches, evaluation_batches, training_batches
from formwright.data.folders import holds_pictures
from formwright.data.images import ImageData, read_images
from formwright.deployment.preprocessing import Preprocessing
from formwright.fitting.classification import ClassificationTask
from formwright.fitting.mistakes import Thumbnail, thumbnail
from formwright.fitting.records import Baseline
from formwright.fitting.task import TASKS, Peer, Reading, Words
from formwright.metrics.baselines import logistic_regression, majority_class
from formwright.models.identification import Pretrained
from formwright.search.images import ImageSpace, PictureShape

#: A training of fewer steps of 128, or that sees each picture fewer times than this, is not worth a larger model.
FEWEST_STEPS, FEWEST_EPOCHS = 1500, 5


@TASKS.register("image-classification")
class ImageClassification(ClassificationTask):
    """Pictures of one size, each of one class."""

    name: ClassVar[str] = "image-classification"
    order: ClassVar[int] = 10
    words: ClassVar[Words] = Words(
        model="an image classifier",
        sample="picture",
        samples="pictures",
        argument="picture.png",
        answer="the class and its probability",
        figure="Share of the test pictures that each one gets right",
    )
    peer: ClassVar[Peer] = Peer("plain ResNet", "resnet")

    def __init__(self, data: ImageData, augmentation: Augmentation | None = None) -> None:
        self.data = data
        self.augmentation = infer_augmentation(data) if augmentation is None else augmentation
        self.source = data.source
        self.notes = data.notes
        self.samples = {part: len(data.split.part(part)) for part in ("train", "val", "test")}
        self.class_names = data.class_names

    @classmethod
    def recognise(cls, path: Path | None) -> str | None:
        if path is None:
            return "scikit-learn's digits"
        if path.is_dir():
            return "a folder with pictures" if holds_pictures(path) else None
        is_array = path.suffix == ".npz" or ("idx" in path.name and "images" in path.name)
        return "an array of pictures" if is_array and path.is_file() else None

    @classmethod
    def read(
        cls,
        path: str | Path | None,
        *,
        seed: int,
        skip_bad: bool = False,
        pretrained: Pretrained | None = None,
        progress: Reading | None = None,
        **options: Any,
    ) -> Self:
        channels = None if pretrained is None else pretrained[0].input.channels
        return cls(read_images(path, channels=channels, seed=seed, skip_bad=skip_bad, progress=progress))

    def save_splits(self, path: str | Path) -> None:
        self.data.save_splits(path)

    def check_splits(self, path: str | Path) -> None:
        self.data.check_splits(path)

    def training_batches(self, batch_size: int, *, seed: int) -> Batches:
        return training_batches(self.data, batch_size=batch_size, seed=seed, augmentation=self.augmentation)

    def evaluation_batches(
        self, part: str, *, batch_size: int | None = None, most: int | None = None
    ) -> Iterator[Batch]:
        return evaluation_batches(self.data, part, batch_size=batch_size or 256, most=most)

    def part_labels(self, part: str) -> NDArray[np.int64]:
        return self.data.labels[self.data.split.part(part)]

    def part_names(self, part: str) -> Sequence[tuple[int, str]]:
        return [(int(index), self.data.files[index]) for index in self.data.split.part(part)]

    @property
    def space(self) -> ImageSpace:
        data = self.data
        return ImageSpace(PictureShape(data.size, data.channels, data.classes, self.samples["train"]))

    @property
    def worthwhile_samples(self) -> float:
        return float(max(FEWEST_EPOCHS * self.samples["train"], FEWEST_STEPS * 128))

    def baselines(self, *, seconds: float, seed: int) -> list[Baseline]:
        data, train, test = self.data, self.data.split.train, self.data.split.test
        regression = logistic_regression(
            data.images[train], data.labels[train], data.images[test], data.classes, seconds=seconds, seed=seed
        )
        return [self.scored(majority_class(data.labels[train], len(test), data.classes)), self.scored(regression)]

    def preprocessing(self) -> Preprocessing:
        data = self.data
        return Preprocessing(
            size=data.size,
            channels=3 if data.channels == 3 else 1,
            mean=data.mean,
            std=data.std,
            labels=data.class_names,
        )

    def describe(self) -> dict[str, Any]:
        data = self.data
        return {
            "pictures": len(data.labels),
            **self.describe_classes(),
            "counts": np.bincount(data.labels, minlength=data.classes).tolist(),
            "size": list(data.size),
            "channels": data.channels,
        }

    def attachments(self, details: Mapping[str, Any]) -> dict[int, Any]:
        return {mistake["index"]: self.data.images[mistake["index"]] for mistake in details["mistakes"]}

    @classmethod
    def data_facts(cls, data: Mapping[str, Any]) -> list[tuple[str, str]]:
        height, width = data["size"]
        colour = "grey" if data["channels"] == 1 else "colour"
        return [("pictures", f"{data['pictures']:,}, {height} × {width} pixels, {colour}")]

    @classmethod
    def shown_mistake(cls, attachment: Any) -> Thumbnail | None:
        return thumbnail(attachment)
