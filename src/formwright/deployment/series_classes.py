"""Classes of the series in a table, by an exported folder: ``model.onnx`` and ``preprocessing.json``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from formwright.data.labelled_series import Columns, prepared, split_rows
from formwright.data.series import Scaling
from formwright.data.series_files import column_of, read_frame
from formwright.deployment.classes import Prediction, classify
from formwright.deployment.preprocessing import FILE
from formwright.deployment.runtime import OnnxModel
from formwright.errors import UserError
from formwright.files import read_json, write_json
from formwright.reporting import SILENT, Reporter

BATCH = 256


@dataclass(frozen=True)
class SeriesClassPreparation:
    """From a table of series to the model's input.

    Attributes:
        columns: what a table calls things; its column of classes may be missing.
        length: steps that every series is brought to.
        scaling: of the variates.
        labels: the classes, in the order of the model's outputs.
    """

    columns: Columns
    length: int
    scaling: Scaling
    labels: tuple[str, ...]

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``preprocessing.json`` into ``folder``."""
        columns = self.columns
        record = {
            "task": "series-classification",
            "schema_version": 1,
            "label_column": columns.label,
            "value_columns": list(columns.values),
            "series_column": columns.series,
            "time_column": columns.time,
            "length": self.length,
            "mean": self.scaling.mean.tolist(),
            "deviation": self.scaling.deviation.tolist(),
            "labels": list(self.labels),
        }
        write_json(Path(folder) / FILE, record)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> SeriesClassPreparation:
        """Read ``preprocessing.json`` in ``folder``.

        Raises:
            UserError: it is missing or not valid.
        """
        path = Path(folder) / FILE
        record = read_json(path)
        try:
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
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path} does not describe a preparation of series ({error}); export it again.") from None

    def predict(self, model: OnnxModel, inputs: Sequence[str], reporter: Reporter = SILENT) -> Iterator[Prediction]:
        """The class of every series in the tables ``inputs``.

        Raises:
            UserError: a table cannot be used; row and column are named.
        """
        for file in inputs:
            reporter.stage(f"Reading {Path(file).name}")
            frame = read_frame(file)
            needed = [*self.columns.values, *(name for name in (self.columns.series, self.columns.time) if name)]
            for name in needed:
                column_of(frame, name, "the model")
            raw, names, _ = split_rows(frame, self.columns)
            for start in range(0, len(raw), BATCH):
                rows = [prepared(values, self.scaling, self.length) for values in raw[start : start + BATCH]]
                yield from classify(model, np.stack(rows), names[start : start + BATCH], self.labels)
                reporter.progress(min((start + BATCH) / len(raw), 1.0), f"{len(raw):,} series")
