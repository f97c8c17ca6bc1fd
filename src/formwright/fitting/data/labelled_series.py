"""Series, each of one class: light curves, readings of sensors, control charts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from formwright.data.labelled_series import LabelledSeries, labelled_series, read_labelled_series
from formwright.data.samples import control_charts
from formwright.data.series_files import mostly_numbers
from formwright.data.sheets import READERS, read_sheet
from formwright.deployment.preparations.series_classification import SeriesClassPreparation
from formwright.fitting.kind import DATA, ENCODING, PARTS, Answers, ClassifiedData, Option, Reading
from formwright.fitting.shown import ShownLines, lines
from formwright.shapes import LabelledShape

if TYPE_CHECKING:
    from formwright.batch import Batch
    from formwright.data.array_batches import ArrayBatches

FEWEST_PASSES = 10
#: Of every table of whole series.
TABLE_OPTIONS: Mapping[str, Option] = {
    "series": Option("column that says which series a row is of, where a series has many rows"),
    "time": Option("column of times, where a series has many rows"),
    "encoding": ENCODING,
}


@DATA.register("labelled-series")
class ClassifiedSeries(ClassifiedData):
    """Series, brought to one length."""

    name: ClassVar[str] = "labelled-series"
    subject: ClassVar[str] = "series"
    order: ClassVar[int] = 30
    expects: ClassVar[str] = "series with classes (a table, and --task series-classification)"
    options: ClassVar[Mapping[str, Option]] = {
        "label_column": Option("column of the classes; inferred if unset"),
        **TABLE_OPTIONS,
    }
    sample: ClassVar[str] = "series"
    samples: ClassVar[str] = "series"
    argument: ClassVar[str] = "series.csv"
    asked: ClassVar[str] = "each series of a table"
    keeps_best: ClassVar[bool] = True

    content: LabelledSeries
    preparation: SeriesClassPreparation

    def __init__(self, content: LabelledSeries) -> None:
        self.content = content
        self.preparation = SeriesClassPreparation(
            content.columns, content.length, content.scaling, tuple(content.class_names)
        )
        self.inputs = {part: self._inputs(content.split.part(part)) for part in PARTS}

    def _inputs(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.preparation.inputs([self.content.raw[index] for index in indices])

    @classmethod
    def recognise(cls, path: Path | None) -> str | None:
        return None  # a table of numbers with a column of classes may be anything: the task is to be named

    @classmethod
    def recognise_by(cls, path: Path, options: Mapping[str, Any]) -> str | None:
        label = options.get("label_column")
        if label is None or not path.is_file() or path.suffix.lower() not in READERS:
            return None
        frame = read_sheet(path, encoding=options.get("encoding"), skip_bad=True, keep=(label,)).frame
        others = [name for name in frame.columns if name != label]
        numbers = sum(mostly_numbers(frame[name]) for name in others)
        return "a table of numbers with a class" if label in frame and numbers > len(others) / 2 else None

    @classmethod
    def read(cls, path: Path | None, how: Reading) -> Self:
        if path is None:
            source = "six kinds of control charts, generated"
            return cls(labelled_series(*control_charts(), source=source, seed=how.seed))
        names = {"label": how.options.get("label_column")}
        names |= {name: how.options.get(name) for name in ("series", "time", "encoding")}
        return cls(read_labelled_series(path, **names, seed=how.seed, skip_bad=how.skip_bad))

    def training_batches(
        self, batch_size: int, *, seed: int, parts: Sequence[str] = ("train",), answers: Answers | None = None
    ) -> ArrayBatches:
        from formwright.data.array_batches import ArrayBatches

        inputs = np.concatenate([self.inputs[part] for part in parts])
        return ArrayBatches(inputs, self.targets(parts, answers), batch_size=batch_size, seed=seed)

    def batches_of(self, inputs: NDArray[Any], targets: NDArray[Any], batch_size: int, *, seed: int) -> ArrayBatches:
        from formwright.data.array_batches import ArrayBatches

        return ArrayBatches(inputs, targets, batch_size=batch_size, seed=seed)

    def evaluation_batches(
        self, part: str, *, batch_size: int | None = None, most: int | None = None
    ) -> Iterator[Batch]:
        from formwright.data.array_batches import in_order

        return in_order(self.inputs[part], self.labels(part), batch_size=batch_size or 256, most=most)

    @property
    def shape(self) -> LabelledShape:
        content = self.content
        return LabelledShape(content.length, content.variates, len(self.class_names), self.samples_of["train"])

    @property
    def worthwhile_samples(self) -> float:
        return float(FEWEST_PASSES * self.samples_of["train"])

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "length": self.content.length, "variates": self.content.variates}

    @classmethod
    def facts(cls, data: Mapping[str, Any]) -> list[tuple[str, str]]:
        several = f", {data['variates']} variates" if data["variates"] > 1 else ""
        return [("series", f"{data['series']:,} of {data['length']:,} steps{several}"), *super().facts(data)]

    def show(self, index: int) -> ShownLines:
        return lines(self._inputs(np.array([index]))[0])
