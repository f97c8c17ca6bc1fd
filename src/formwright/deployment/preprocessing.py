"""What a shipped model expects of a picture, and the names of its classes: ``preprocessing.json``."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from formwright.data.preprocess import read_picture, to_array
from formwright.deployment.classes import Prediction, classify
from formwright.deployment.runtime import OnnxModel
from formwright.errors import UserError
from formwright.files import read_json, write_json
from formwright.reporting import SILENT, Reporter

FILE = "preprocessing.json"
BATCH = 32  # pictures that are held in memory at once

Pixels = Annotated[int, Field(gt=0)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Preprocessing:
    """From a picture to a model's input: ``(x / 255 - mean) / std`` of the picture cut and resized to ``size``.

    ``size``: height and width in pixels. ``channels``: 1 (grey) or 3 (RGB). ``mean``, ``std``: one a channel, for
    values from 0 to 1. ``labels``: the classes, in the order of the model's outputs. Cutting and resizing follow the
    rule of :mod:`formwright.data.preprocess`, as in training.
    """

    size: tuple[Pixels, Pixels]
    channels: int
    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0)], ...]
    labels: Annotated[tuple[str, ...], Field(min_length=1)]
    task: Literal["image-classification"] = "image-classification"
    schema_version: Literal[1] = 1

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise ValueError(f"{self.channels} channels; 1 (grey) or 3 (RGB) is expected")
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(f"{self.channels} channels need as many means and deviations")

    def apply(self, picture: Image.Image) -> NDArray[np.float32]:
        """The input ``(channels, height, width)`` that stands for an open picture."""
        return self.normalise(to_array(picture, self.size, self.channels))

    def read(self, file: str | os.PathLike[str]) -> NDArray[np.float32]:
        """As :meth:`apply`, from a file. Raises :class:`UserError` for what is not a whole picture."""
        return self.normalise(read_picture(Path(file), self.size, self.channels).pixels)

    def normalise(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """``(..., height, width, channels)`` from 0 to 255 to ``(..., channels, height, width)`` around zero."""
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        scaled = (pixels.astype(np.float32) / 255 - mean) / std
        return np.ascontiguousarray(np.moveaxis(scaled, -1, -3))

    def predict(self, model: OnnxModel, inputs: Sequence[str], reporter: Reporter = SILENT) -> Iterator[Prediction]:
        """What ``model`` says of each picture file."""
        for start in range(0, len(inputs), BATCH):
            chunk = inputs[start : start + BATCH]
            yield from classify(model, np.stack([self.read(file) for file in chunk]), chunk, self.labels)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``preprocessing.json`` into ``folder``."""
        write_json(Path(folder) / FILE, dataclasses.asdict(self))

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Preprocessing:
        """Read ``preprocessing.json`` in ``folder``. Raises :class:`UserError` where it is missing or not valid."""
        path = Path(folder) / FILE
        try:
            return TypeAdapter(cls).validate_python(read_json(path))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "top"
            raise UserError(f"{path} does not describe a preprocessing: at {where!r}, {first['msg']}.") from None
