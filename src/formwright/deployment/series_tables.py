"""What a shipped model that reads whole series expects of a table: a row for each series, or for each step."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from formwright.data.labelled_series import Columns, drop_bad_rows, prepared, split_rows
from formwright.data.series import Scaling
from formwright.data.series_files import column_of
from formwright.data.sheets import READERS, Sheet, read_sheet
from formwright.deployment.inputs import AS_FOUND, InputOptions
from formwright.deployment.preparation import Answer, Preparation, Unanswered
from formwright.deployment.runtime import OnnxModel
from formwright.errors import UserError
from formwright.reporting import SILENT, Reporter

BATCH = 256


@dataclass(frozen=True)
class SeriesTablePreparation(Preparation):
    """From a table of series to the model's input.

    Attributes:
        columns: what a table calls things; its column of what is learned may be missing.
        length: steps that every series is brought to.
        scaling: of the variates.
    """

    of: ClassVar[str] = "series"
    suffixes: ClassVar[Collection[str]] = READERS

    columns: Columns
    length: int
    scaling: Scaling

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
        }

    @staticmethod
    def fields_of(record: Mapping[str, Any]) -> tuple[Columns, int, Scaling]:
        """The fields that :meth:`record` wrote."""
        values = tuple(map(str, record["value_columns"]))
        columns = Columns(str(record["label_column"]), values, record["series_column"], record["time_column"])
        mean, deviation = (np.asarray(record[name], np.float64) for name in ("mean", "deviation"))
        return columns, int(record["length"]), Scaling(mean, deviation)

    def inputs(self, raw: Sequence[NDArray[np.float64]]) -> NDArray[np.float32]:
        """``(series, length, variates)``, as the model takes them, of one array ``(steps, variates)`` per series."""
        return np.stack([prepared(values, self.scaling, self.length) for values in raw])

    @abstractmethod
    def said(self, model: OnnxModel, rows: NDArray[np.float32], names: Sequence[str]) -> Iterator[Answer]:
        """What ``model`` says of each row of inputs."""

    @abstractmethod
    def append(self, path: Path, answers: Sequence[Answer]) -> int:
        """Add answers to a CSV file, and return how many rows were added."""

    def predict(
        self,
        model: OnnxModel,
        inputs: Sequence[str],
        reporter: Reporter = SILENT,
        how: InputOptions = AS_FOUND,
    ) -> Iterator[Answer]:
        """The answer for every series in the tables ``inputs``; last, what cannot be answered, and why.

        Raises:
            UserError: nothing at all can be answered; row and column are named.
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
                yield from self.said(model, rows, names[start : start + BATCH])
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
        """Write the answers to a CSV file, or add them to one."""
        found = list(answers)
        given = [answer for answer in found if not isinstance(answer, Unanswered)]
        reporter.note(f"{self.append(out, given):,} rows added to {out}.")
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
