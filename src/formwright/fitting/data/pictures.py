"""Pictures of one size, each of one class."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from formwright.data.folders import holds_pictures
from formwright.data.images import ImageData, read_images
from formwright.data.picture_tables import find_table
from formwright.deployment.preparations.image_classification import PicturePreparation
from formwright.errors import UserError
from formwright.fitting.kind import DATA, ENCODING, Answers, ClassifiedData, Option, Reading
from formwright.fitting.shown import ShownPicture, picture
from formwright.resizing import Resizing
from formwright.shapes import PictureShape

if TYPE_CHECKING:
    from formwright.batch import Batch
    from formwright.data.augmentation import Augmentation
    from formwright.data.batches import Batches
    from formwright.models.preprocessing import Preprocessing
    from formwright.models.pretrained import Pretrained

#: A training of fewer steps of 128, or that sees each picture fewer times than this, is not worth a larger model.
FEWEST_STEPS, FEWEST_EPOCHS = 1500, 5


@DATA.register("pictures")
class Pictures(ClassifiedData):
    """Pictures, of which those to train on are shifted and mirrored a little."""

    name: ClassVar[str] = "pictures"
    subject: ClassVar[str] = "image"
    order: ClassVar[int] = 10
    expects: ClassVar[str] = (
        "pictures (a folder with a sub-folder per class, or with a table of files and classes, an .npz file or IDX "
        "files)"
    )
    options: ClassVar[Mapping[str, Option]] = {
        "label_column": Option("the column of classes, by name, of a table that names pictures"),
        "image_size": Option("the size of the pictures in pixels, such as 96 or 96x128 (height x width)"),
        "encoding": ENCODING,
    }
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
        self.preparation = PicturePreparation(
            content.size,
            channels,
            content.mean,
            content.std,
            content.class_names,
            content.resizing,
            content.levels,
        )

    @cached_property
    def augmentation(self) -> Augmentation:
        from formwright.data.augmentation import infer_augmentation

        return infer_augmentation(self.content)

    @property
    def mirrors(self) -> bool:  # type: ignore[override]
        return self.augmentation.flip

    @classmethod
    def recognise(cls, path: Path | None) -> str | None:
        if path is None:
            return "scikit-learn's digits"
        if path.exists() and find_table(path) is not None:
            return "a table of pictures"
        if path.is_dir():
            return "a folder with pictures" if holds_pictures(path) else None
        is_array = path.suffix == ".npz" or ("idx" in path.name and "images" in path.name)
        return "an array of pictures" if is_array and path.is_file() else None

    @classmethod
    def read(cls, path: Path | None, how: Reading) -> Self:
        weights, prepared, said = with_one_preprocessing(how.weights)
        read = read_images(
            path,
            size=_size_of(how.options.get("image_size")),
            channels=weights[0].specification.input.channels if weights else None,
            seed=how.seed,
            skip_bad=how.skip_bad,
            prepared=prepared,
            least_side=max((one.least_side for one in weights), default=1),
            label_column=how.options.get("label_column"),
            encoding=how.options.get("encoding"),
            out=how.out,
            progress=how.progress,
        )
        data = cls(dataclasses.replace(read, notes=(*read.notes, *said)))
        data.weights = weights
        return data

    def training_batches(
        self, batch_size: int, *, seed: int, parts: Sequence[str] = ("train",), answers: Answers | None = None
    ) -> Batches:
        from formwright.data.batches import training_batches

        return training_batches(
            self.content,
            batch_size=batch_size,
            seed=seed,
            augmentation=self.augmentation,
            parts=parts,
            targets=None if answers is None else self.targets(parts, answers),
        )

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
        content = self.content
        found = {**super().describe(), "size": list(content.size), "channels": content.channels}
        if self.weights:  # which decide on it
            found["prepared"] = {
                "mean": list(content.mean),
                "std": list(content.std),
                "resizing": dataclasses.asdict(content.resizing),
            }
        return found

    @classmethod
    def facts(cls, data: Mapping[str, Any]) -> list[tuple[str, str]]:
        height, width = data["size"]
        colour = "grey" if data["channels"] == 1 else "colour"
        found = [("pictures", f"{data['pictures']:,}, {height} × {width} pixels, {colour}")]
        if prepared := data.get("prepared"):
            mean, std = (", ".join(f"{value:.3g}" for value in prepared[name]) for name in ("mean", "std"))
            found.append(("prepared by", f"{Resizing(**prepared['resizing'])}; less {mean}, divided by {std}"))
        return [*found, *super().facts(data)]

    def show(self, index: int) -> ShownPicture:
        return picture(self.content.images[index])


def _size_of(given: str | int | tuple[int, int] | None) -> int | tuple[int, int] | None:
    """``96`` or ``96x128`` as a size."""
    if not isinstance(given, str):
        return given
    sides = given.lower().replace("\N{MULTIPLICATION SIGN}", "x").split("x")
    if len(sides) > 2 or not all(side.strip().isdecimal() for side in sides):
        raise UserError(f"The image size is one number or two with an x between them (--image-size), got {given!r}.")
    height, width = int(sides[0]), int(sides[-1])
    return height, width


def with_one_preprocessing(
    weights: Sequence[Pretrained],
) -> tuple[Sequence[Pretrained], Preprocessing | None, tuple[str, ...]]:
    """Checkpoints for pictures that are prepared in one way, which way, and what to say of it.

    A run prepares its pictures once: as the first checkpoint that says how it was trained. What was trained with
    another mean and deviation gets the same values as then (:meth:`~formwright.models.pretrained.Pretrained.on_scale`).

    Raises:
        UserError: a checkpoint is of other data, or they do not take the same channels.
    """
    if not weights:
        return weights, None, ()
    from formwright.nn.inputs import ImageInput

    for one in weights:
        one.check_takes(ImageInput, Pictures.samples)
        channels, first = one.specification.input.channels, weights[0].specification.input.channels
        if channels not in (1, 3):
            raise UserError(
                f"{one.origin} takes pictures of {channels} channels; give weights of 1 (grey) or of 3 (colour)."
            )
        if channels != first:
            raise UserError(
                f"{one.origin} takes pictures of {channels} channels and {weights[0].origin} those of {first}, and all "
                "candidates of a run see the same: give them to a run each."
            )
        if one.preprocessing is not None and len(one.preprocessing.mean) != channels:
            raise UserError(
                f"{one.origin} states {len(one.preprocessing.mean)} means for pictures of {channels} channels; correct "
                "how its pictures are prepared, or leave that out."
            )
    leader = next((one for one in weights if one.preprocessing is not None), None)
    if leader is None or leader.preprocessing is None:
        names = ", ".join(one.origin for one in weights)
        return weights, None, (f"Nothing says how pictures were prepared for {names}: it is done without weights.",)
    shared, made = leader.preprocessing, []
    mean, std = (", ".join(f"{value:.3g}" for value in values) for values in (shared.mean, shared.std))
    said = [f"Means ({mean}) and deviations ({std}) are those of {leader.origin}."]
    for one in weights:
        own = one.preprocessing
        if own is None:
            said.append(f"Nothing says how pictures were prepared for {one.origin}: it gets the same ones.")
        elif (own.mean, own.std) != (shared.mean, shared.std):
            said.append(f"{one.origin} was trained with others, and gets its own values from these.")
            one = one.on_scale(shared.mean, shared.std)
        made.append(one)
    return made, shared, tuple(said)
