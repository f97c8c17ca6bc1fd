"""What a shipped classifier of series expects of a table, and the names of its classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from formwright.data.labelled_series import Columns, drop_bad_rows, prepared, split_rows
from formwright.data.series import Scaling
from formwright.data.series_files import column_of
from formwright.data.sheets import READERS, Sheet, read_sheet
from formwright.deployment.classes import Prediction, append_classes, classify
from formwright.deployment.inputs import AS_FOUND, InputOptions
from formwright.deployment.preparation import PREPARATIONS, Answer, Preparation, Unanswered
from formwright.deployment.runtime import OnnxModel
from formwright.errors import UserError
from formwright.reporting import SILENT, Reporter

BATCH = 256


@PREPARATIONS.register("series-classification")
@dataclass(frozen=True)
class SeriesClassPreparation(Preparation):
    """From a table of series to the model's input.

    Attributes:
        columns: what a table calls things; its column of classes may be missing.
        length: steps that every series is brought to.
        scaling: of the variates.
        labels: the classes, in the order of the model's outputs.
    """

    task: ClassVar[str] = "series-classification"
    of: ClassVar[str] = "series"
    suffixes: ClassVar[Collection[str]] = READERS

    columns: Columns
    length: int
    scaling: Scaling
    labels: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        columns = self.columns
        return {
            "label_column": columns.label,
            "value_columns": list(columns.values),
            "series_column": columns.series,
            "time_column": columns.time,
            "length": self.length,
            "mean": self.scaling.mean.tolist(),
            "deviation": self.scaling.deviation.tolist(),
            "labels": list(self.labels),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any], folder: Path) -> Self:
        return cls(
            columns=Columns(
                str(record["label_column"]),
                tuple(map(str, record["value_columns"])),
                record["series_column"],
                record["time_column"],
            ),
            length=int(record["length"]),
            scaling=Scaling(np.asarray(record["mean"], np.float64), np.asarray(record["deviation"], np.float64)),
            labels=tuple(map(str, record["labels"])),
        )

    def inputs(self, raw: Sequence[NDArray[np.float64]]) -> NDArray[np.float32]:
        """``(series, length, variates)``, as the model takes them, of one array ``(steps, variates)`` per series."""
        return np.stack([prepared(values, self.scaling, self.length) for values in raw])

    def predict(
        self,
        model: OnnxModel,
        inputs: Sequence[str],
        reporter: Reporter = SILENT,
        how: InputOptions = AS_FOUND,
    ) -> Iterator[Prediction | Unanswered]:
        """The class of every series in the tables ``inputs``; last, what cannot be classified, and why.

        Raises:
            UserError: nothing at all can be classified; row and column are named.
        """
        answered, failed = 0, list[Unanswered]()
        for file in inputs:
            reporter.stage(f"Reading {Path(file).name}")
            try:
                raw, names, bad = self._read(file, reporter, how)
            except UserError as error:
                failed.append(Unanswered("file", str(file), str(error)))
                continue
            failed += [Unanswered("series", name, why) for name, why in bad.items()]
            answered += len(raw)
            for start in range(0, len(raw), BATCH):
                rows = self.inputs(raw[start : start + BATCH])
                yield from classify(model, rows, names[start : start + BATCH], self.labels, "series")
                reporter.progress(min((start + BATCH) / len(raw), 1.0), f"{len(raw):,} series")
        if failed and not answered:
            raise UserError(failed[0].reason)
        yield from failed

    def write(
        self,
        answers: Iterator[Answer],
        out: Path,
        reporter: Reporter = SILENT,
        how: InputOptions = AS_FOUND,
    ) -> Iterator[Answer]:
        """Write the classes to a CSV file, or add them to one (:func:`append_classes`)."""
        found = list(answers)
        classes = [answer for answer in found if isinstance(answer, Prediction)]
        reporter.note(f"{append_classes(out, classes, 'series'):,} rows added to {out}.")
        yield from found

    def _read(
        self, file: str, reporter: Reporter, how: InputOptions
    ) -> tuple[list[NDArray[np.float64]], list[str], dict[str, str]]:
        keep = (self.columns.series, self.columns.time, *self.columns.values)
        sheet = read_sheet(file, encoding=how.encoding, skip_bad=how.skip_bad, keep=keep)
        columns = self._columns_in(sheet)
        needed = [*columns.values, *(name for name in (columns.series, columns.time) if name)]
        for name in needed:
            column_of(sheet.frame, name, "the model")
        if how.skip_bad:
            drop_bad_rows(sheet, columns)
        found = split_rows(sheet, columns)
        for note in sheet.notes:
            reporter.note(note)
        longer = sum(len(values) > self.length for values in found[0])
        if longer:
            reporter.note(f"Of {longer:,} series the first {self.length:,} steps are read: the model takes no more.")
        return found

    def _columns_in(self, sheet: Sheet) -> Columns:
        """The columns of a table; where each row is a series, the last steps may be missing: its series are shorter."""
        columns, names = self.columns, set(sheet.frame.columns)
        there = tuple(name for name in columns.values if name in names)
        shorter = columns.series is None and there and there == columns.values[: len(there)]
        return dataclasses.replace(columns, values=there) if shorter else columns
