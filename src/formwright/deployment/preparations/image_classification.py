"""What a shipped classifier expects of a picture, and the names of its classes."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from formwright.data.preprocess import read_picture, readable_suffixes, to_array
from formwright.deployment.classes import Prediction, classify
from formwright.deployment.inputs import AS_FOUND, InputOptions
from formwright.deployment.preparation import PREPARATIONS, Preparation
from formwright.deployment.runtime import OnnxModel
from formwright.errors import UserError
from formwright.levels import UNKNOWN, Levels
from formwright.reporting import SILENT, Reporter
from formwright.resizing import LARGEST_BOX, Resizing

BATCH = 32  # pictures that are held in memory at once

Pixels = Annotated[int, Field(gt=0)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class PicturePreparation(Preparation):
    """From a picture to a model's input: ``(x / 255 - mean) / std`` of the picture resized to ``size``.

    ``size``: height and width in pixels. ``channels``: 1 (grey) or 3 (RGB). ``mean``, ``std``: one per channel, for
    values from 0 to 1. ``labels``: the classes, in the order of the model's outputs. ``resizing``: what of the
    picture is kept, and the filter. ``levels``: what becomes of more than eight bits. ``orientation``: pictures
    are turned as their EXIF entry says. All follows the rule of
    :mod:`formwright.data.preprocess`, as in training.
    """

    task: ClassVar[str] = "image-classification"
    of: ClassVar[str] = "pictures"
    suffixes: ClassVar[Collection[str]] = readable_suffixes()

    size: tuple[Pixels, Pixels]
    channels: int
    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0)], ...]
    labels: Annotated[tuple[str, ...], Field(min_length=1)]
    resizing: Resizing = LARGEST_BOX
    levels: Levels = UNKNOWN
    orientation: Literal["exif"] = "exif"

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise ValueError(f"{self.channels} channels; 1 (grey) or 3 (RGB) is expected")
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(f"{self.channels} channels need as many means and deviations")

    def record(self) -> dict[str, Any]:
        fields = super().record()
        if self.levels == UNKNOWN:
            del fields["levels"]
        return fields

    def apply(self, picture: Image.Image) -> NDArray[np.float32]:
        """The input ``(channels, height, width)`` that stands for an open picture."""
        return self.normalise(to_array(picture, self.size, self.channels, self.resizing, self.levels))

    def read(self, file: str | os.PathLike[str]) -> NDArray[np.float32]:
        """As :meth:`apply`, from a file. Raises :class:`UserError` for what is not a whole picture."""
        picture = read_picture(Path(file), self.size, self.channels, resizing=self.resizing, levels=self.levels)
        return self.normalise(picture.pixels)

    def normalise(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """``(..., height, width, channels)`` from 0 to 255 to ``(..., channels, height, width)`` around zero."""
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        scaled = (pixels.astype(np.float32) / 255 - mean) / std
        return np.ascontiguousarray(np.moveaxis(scaled, -1, -3))

    def predict(
        self,
        model: OnnxModel,
        inputs: Sequence[str],
        reporter: Reporter = SILENT,
        how: InputOptions = AS_FOUND,
    ) -> Iterator[Prediction]:
        for start in range(0, len(inputs), BATCH):
            read = [(self._read(file, how, reporter), file) for file in inputs[start : start + BATCH]]
            pictures = [(pixels, file) for pixels, file in read if pixels is not None]
            if pictures:
                rows = np.stack([pixels for pixels, _ in pictures])
                yield from classify(model, rows, [file for _, file in pictures], self.labels)

    def _read(self, file: str, how: InputOptions, reporter: Reporter) -> NDArray[np.float32] | None:
        try:
            return self.read(file)
        except UserError as error:
            if not how.skip_bad:
                raise
            reporter.note(f"Left out: {error}")
            return None


PREPARATIONS.add("image-classification", PicturePreparation)
