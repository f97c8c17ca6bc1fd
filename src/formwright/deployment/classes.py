"""From a classifier's outputs to class names and probabilities."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formwright.deployment.runtime import OnnxModel
from formwright.errors import UserError


@dataclass(frozen=True)
class Prediction:
    """The likeliest class of an input, its probability, and the probability of every class.

    ``file`` is the file that was read, or the text itself, or the name of the series; ``kind`` says which of them.
    """

    file: str
    label: str
    probability: float
    probabilities: dict[str, float]
    kind: str = "file"

    def to_json(self) -> dict[str, Any]:
        fields = dataclasses.asdict(self)
        return {fields.pop("kind"): fields.pop("file"), **fields}

    def cells(self) -> dict[str, str]:
        return {self.kind: self.file, "class": self.label, "probability": f"{self.probability:.1%}"}


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """``exp(x) / Σ exp(x)`` over the last axis, shifted by the largest so that nothing overflows."""
    powers = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def classify(
    model: OnnxModel, rows: NDArray[Any], names: Sequence[str], labels: Sequence[str], kind: str = "file"
) -> Iterator[Prediction]:
    """What ``model`` says of each row of inputs; ``kind`` is what is named.

    Raises:
        UserError: its number of classes does not match the labels.
    """
    logits = model(rows)
    if logits.shape[1:] != (len(labels),):
        raise UserError(
            f"{model.name} gives {logits.shape[1]} values for {len(labels)} classes of its preprocessing.json; "
            "export the folder again."
        )
    for name, row in zip(names, softmax(logits), strict=True):
        best = int(row.argmax())
        yield Prediction(name, labels[best], float(row[best]), dict(zip(labels, row.tolist(), strict=True)), kind)
