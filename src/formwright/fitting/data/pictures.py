"""Pictures of one size, each of one class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from formwright.data.folders import holds_pictures
from formwright.data.images import ImageData, read_images
from formwright.deployment.preparations.image_classification import PicturePreparation
from formwright.fitting.kind import DATA, ClassifiedData, Reading
from formwright.fitting.shown import ShownPicture, picture
from formwright.shapes import PictureShape

if TYPE_CHECKING:
    from formwright.batch import Batch
    from formwright.data.augmentation import Augmentation
    from formwright.data.batches import Batches

#: A training of fewer steps of 128, or that sees each picture fewer times than this, is not worth a larger model.
FEWEST_STEPS, FEWEST_EPOCHS = 1500, 5


@DATA.register("pictures")
class Pictures(ClassifiedData):
    """Pictures, of which those to train on are shifted and mirrored a little."""

    name: ClassVar[str] = "pictures"
    subject: ClassVar[str] = "image"
    order: ClassVar[int] = 10
    expects: ClassVar[str] = "pictures (a folder with a sub-folder per class, an .npz file or IDX files)"
    sample: ClassVar[str] = "picture"
    samples: ClassVar[str] = "pictures"
    argument: ClassVar[str] = "picture.png"
    asked: ClassVar[str] = "a picture"
    takes_weights: ClassVar[bool] = True

    content: ImageData

    def __init__(self, content: ImageData, augmentation: Augmentation | None = None) -> None:
        self.content = content
        if augmentation is not None:
            self.augmentation = augmentation
        channels = 3 if content.channels == 3 else 1
        self.preparation = PicturePreparation(content.size, channels, content.mean, content.std, content.class_names)

    @cached_property
    def augmentation(self) -> Augmentation:
        from formwright.data.augmentation import infer_augmentation

        return infer_augmentation(self.content)

    @classmethod
    def recognise(cls, path: Path | None) -> str | None:
        if path is None:
            return "scikit-learn's digits"
        if path.is_dir():
            return "a folder with pictures" if holds_pictures(path) else None
        is_array = path.suffix == ".npz" or ("idx" in path.name and "images" in path.name)
        return "an array of pictures" if is_array and path.is_file() else None

    @classmethod
    def read(cls, path: Path | None, how: Reading) -> Self:
        channels = None
        if how.pretrained is not None:
            from formwright.nn.inputs import ImageInput

            how.pretrained.check_takes(ImageInput, cls.samples)
            channels = how.pretrained.specification.input.channels
        return cls(read_images(path, channels=channels, seed=how.seed, skip_bad=how.skip_bad, progress=how.progress))

    def training_batches(self, batch_size: int, *, seed: int, parts: Sequence[str] = ("train",)) -> Batches:
        from formwright.data.batches import training_batches

        augmentation = self.augmentation
        return training_batches(self.content, batch_size=batch_size, seed=seed, augmentation=augmentation, parts=parts)

    def evaluation_batches(
        self, part: str, *, batch_size: int | None = None, most: int | None = None
    ) -> Iterator[Batch]:
        from formwright.data.batches import evaluation_batches

        return evaluation_batches(self.content, part, batch_size=batch_size or 256, most=most)

    @property
    def shape(self) -> PictureShape:
        content = self.content
        return PictureShape(content.size, content.channels, content.classes, self.samples_of["train"])

    @property
    def worthwhile_samples(self) -> float:
        return float(max(FEWEST_EPOCHS * self.samples_of["train"], FEWEST_STEPS * 128))

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "size": list(self.content.size), "channels": self.content.channels}

    @classmethod
    def facts(cls, data: Mapping[str, Any]) -> list[tuple[str, str]]:
        height, width = data["size"]
        colour = "grey" if data["channels"] == 1 else "colour"
        return [("pictures", f"{data['pictures']:,}, {height} × {width} pixels, {colour}"), *super().facts(data)]

    def show(self, index: int) -> ShownPicture:
        return picture(self.content.images[index])
