"""What a shipped model that tells a number from a series expects of a table, and the unit of its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from formwright.deployment.answers import append_answers
from formwright.deployment.preparation import PREPARATIONS, Answer
from formwright.deployment.runtime import OnnxModel
from formwright.deployment.series_tables import SeriesTablePreparation


@dataclass(frozen=True)
class Number:
    """The number ``value`` that is told of a series; ``column`` is what the table of training called it."""

    series: str
    column: str
    value: float

    def to_json(self) -> dict[str, Any]:
        return {"series": self.series, "value": self.value}

    def cells(self) -> dict[str, str]:
        return {"series": self.series, self.column: f"{self.value:.6g}"}


@PREPARATIONS.register("series-regression")
@dataclass(frozen=True)
class SeriesNumberPreparation(SeriesTablePreparation):
    """From a table of series to the model's input, and to numbers: ``target_mean + target_deviation * output``."""

    task: ClassVar[str] = "series-regression"

    target_mean: float
    target_deviation: float

    def record(self) -> dict[str, Any]:
        own = {"target_mean": self.target_mean, "target_deviation": self.target_deviation}
        return {**super().record(), **own}

    @classmethod
    def from_record(cls, record: Mapping[str, Any], folder: Path) -> Self:
        return cls(*cls.fields_of(record), float(record["target_mean"]), float(record["target_deviation"]))

    def scaled(self, numbers: NDArray[np.float64]) -> NDArray[np.float32]:
        """Numbers ``(series,)`` as the model gives them, ``(series, 1)``."""
        return ((numbers - self.target_mean) / self.target_deviation).astype(np.float32)[:, None]

    def in_units(self, outputs: NDArray[np.float32]) -> NDArray[np.float64]:
        """Outputs ``(series, 1)`` as numbers ``(series,)``."""
        return self.target_mean + self.target_deviation * outputs[:, 0].astype(np.float64)

    def said(self, model: OnnxModel, rows: NDArray[np.float32], names: Sequence[str]) -> Iterator[Number]:
        for name, value in zip(names, self.in_units(model(rows)).tolist(), strict=True):
            yield Number(name, self.columns.label, value)

    def append(self, path: Path, answers: Sequence[Answer]) -> int:
        rows = [(one.series, f"{one.value:.9g}") for one in answers if isinstance(one, Number)]
        return append_answers(path, ("series", self.columns.label), rows)
