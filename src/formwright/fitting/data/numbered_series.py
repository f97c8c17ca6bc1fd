"""Series, of each of which a number is to be told: the fat of a meat from its spectrum, the load of a machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from formwright.data.numbered_series import NumberedSeries, read_numbered_series
from formwright.deployment.preparations.series_regression import SeriesNumberPreparation
from formwright.errors import UserError
from formwright.fitting.data.labelled_series import FEWEST_PASSES, TABLE_OPTIONS
from formwright.fitting.kind import DATA, PARTS, Data, Option, Reading
from formwright.fitting.shown import ShownLines, lines
from formwright.shapes import LabelledShape

if TYPE_CHECKING:
    from formwright.batch import Batch
    from formwright.data.array_batches import ArrayBatches


@DATA.register("numbered-series")
class SeriesWithNumbers(Data):
    """Series, brought to one length, and numbers, scaled by their mean and deviation in the training part."""

    name: ClassVar[str] = "numbered-series"
    subject: ClassVar[str] = "series"
    target: ClassVar[str] = "numbers"
    order: ClassVar[int] = 35
    expects: ClassVar[str] = "series with a number each (a table, --task series-regression and --target COLUMN)"
    options: ClassVar[Mapping[str, Option]] = {
        "target": Option("column of the number that is to be told of each series"),
        **TABLE_OPTIONS,
    }
    sample: ClassVar[str] = "series"
    samples: ClassVar[str] = "series"
    argument: ClassVar[str] = "series.csv"
    asked: ClassVar[str] = "each series of a table"
    keeps_best: ClassVar[bool] = True
    leaves_range: ClassVar[bool] = True
    dealt: ClassVar[bool] = True

    content: NumberedSeries
    preparation: SeriesNumberPreparation

    def __init__(self, content: NumberedSeries) -> None:
        self.content, series, learned = content, content.series, content.part("train")
        self.preparation = SeriesNumberPreparation(
            series.columns, series.length, series.scaling, float(learned.mean()), float(learned.std() or 1.0)
        )
        self.inputs = {part: self._inputs(series.split.part(part)) for part in PARTS}
        self.targets = {part: self.preparation.scaled(content.part(part)) for part in PARTS}

    def _inputs(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.preparation.inputs([self.content.series.raw[index] for index in indices])

    @cached_property
    def samples_of(self) -> Mapping[str, int]:  # type: ignore[override]
        return {part: len(self.targets[part]) for part in PARTS}

    @classmethod
    def recognise(cls, path: Path | None) -> str | None:
        return None  # a table of numbers may be anything: the task is to be named

    @classmethod
    def read(cls, path: Path | None, how: Reading) -> Self:
        if path is None:
            raise UserError("No series were given; name a table of them.")
        return cls(read_numbered_series(path, **how.options, seed=how.seed, skip_bad=how.skip_bad))

    def training_batches(self, batch_size: int, *, seed: int, parts: Sequence[str] = ("train",)) -> ArrayBatches:
        inputs, targets = (np.concatenate([held[part] for part in parts]) for held in (self.inputs, self.targets))
        return self.batches_of(inputs, targets, batch_size, seed=seed)

    def batches_of(self, inputs: NDArray[Any], targets: NDArray[Any], batch_size: int, *, seed: int) -> ArrayBatches:
        from formwright.data.array_batches import ArrayBatches

        return ArrayBatches(inputs, targets, batch_size=batch_size, seed=seed)

    def evaluation_batches(
        self, part: str, *, batch_size: int | None = None, most: int | None = None
    ) -> Iterator[Batch]:
        from formwright.data.array_batches import in_order

        return in_order(self.inputs[part], self.targets[part], batch_size=batch_size or 256, most=most)

    def names(self, part: str) -> list[tuple[int, str]]:
        """The number in the data set of each series of a part, and what it is called."""
        return [(int(index), self.content.series.names[index]) for index in self.content.series.split.part(part)]

    @property
    def shape(self) -> LabelledShape:
        """That of a classifier with one output."""
        return LabelledShape(self.content.series.length, self.content.series.variates, 1, self.samples_of["train"])

    @property
    def worthwhile_samples(self) -> float:
        return float(FEWEST_PASSES * self.samples_of["train"])

    def describe(self) -> dict[str, Any]:
        numbers, series = self.content.numbers, self.content.series
        return {
            "series": len(numbers),
            "length": series.length,
            "variates": series.variates,
            "target": series.columns.label,
            "range": [float(numbers.min()), float(numbers.max())],
        }

    @classmethod
    def facts(cls, data: Mapping[str, Any]) -> list[tuple[str, str]]:
        several = f", {data['variates']} variates" if data["variates"] > 1 else ""
        low, high = data["range"]
        return [
            ("series", f"{data['series']:,} of {data['length']:,} steps{several}"),
            ("to be told", f"{data['target']}, {low:.5g} to {high:.5g}"),
        ]

    @classmethod
    def summary(cls, data: Mapping[str, Any]) -> str:
        return f"{data['series']:,} series with a number each"

    def show(self, index: int) -> ShownLines:
        return lines(self._inputs(np.array([index]))[0])
