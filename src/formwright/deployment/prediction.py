"""Predictions of an exported folder: ``model.onnx`` and ``preprocessing.json``, without PyTorch."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formwright.deployment.preprocessing import Preprocessing
from formwright.deployment.runtime import OnnxModel
from formwright.errors import UserError

MODEL_FILE = "model.onnx"
BATCH = 32  # pictures that are held in memory at once


@dataclass(frozen=True)
class Prediction:
    """The likeliest class of a picture, its probability, and the probability of every class."""

    file: str
    label: str
    probability: float
    probabilities: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """``exp(x) / Σ exp(x)`` over the last axis, shifted by the largest so that nothing overflows."""
    powers = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def predict(
    folder: str | os.PathLike[str], files: Sequence[str | os.PathLike[str]], *, threads: int | None = None
) -> list[Prediction]:
    """What the model in ``folder`` says of each picture, in the order of ``files``.

    Raises :class:`UserError` where the folder does not hold an exported model, no file is given, or a file is not a
    picture.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}; give one that a fitted model was shipped to.")
    if not files:
        raise UserError("No pictures were given; name at least one file.")
    preprocessing = Preprocessing.load(folder)
    model = OnnxModel(folder / MODEL_FILE, threads)
    return list(_predict(model, preprocessing, [os.fspath(file) for file in files]))


def _predict(model: OnnxModel, preprocessing: Preprocessing, files: list[str]) -> Iterator[Prediction]:
    labels = preprocessing.labels
    for start in range(0, len(files), BATCH):
        chunk = files[start : start + BATCH]
        logits = model(np.stack([preprocessing.read(file) for file in chunk]))
        if logits.shape[1:] != (len(labels),):
            raise UserError(
                f"{model.name} gives {logits.shape[1]} values for {len(labels)} classes of its preprocessing.json; "
                "export the folder again."
            )
        for file, row in zip(chunk, softmax(logits), strict=True):
            best = int(row.argmax())
            yield Prediction(file, labels[best], float(row[best]), dict(zip(labels, row.tolist(), strict=True)))
