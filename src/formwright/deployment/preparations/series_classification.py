"""What a shipped classifier of series expects of a table, and the names of its classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from formwright.deployment.answers import append_answers
from formwright.deployment.classes import Prediction, classify
from formwright.deployment.preparation import PREPARATIONS, Answer
from formwright.deployment.runtime import OnnxModel
from formwright.deployment.series_tables import SeriesTablePreparation


@PREPARATIONS.register("series-classification")
@dataclass(frozen=True)
class SeriesClassPreparation(SeriesTablePreparation):
    """From a table of series to the model's input, and to classes.

    ``labels``: the classes, in the order of the model's outputs.
    """

    task: ClassVar[str] = "series-classification"

    labels: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        return {**super().record(), "labels": list(self.labels)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any], folder: Path) -> Self:
        return cls(*cls.fields_of(record), labels=tuple(map(str, record["labels"])))

    def said(self, model: OnnxModel, rows: NDArray[np.float32], names: Sequence[str]) -> Iterator[Prediction]:
        yield from classify(model, rows, names, self.labels, "series")

    def append(self, path: Path, answers: Sequence[Answer]) -> int:
        columns = ("series", "class", "probability")
        rows = [(one.file, one.label, f"{one.probability:.6g}") for one in answers if isinstance(one, Prediction)]
        return append_answers(path, columns, rows)
