"""Classification of series."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from formwright.batch import Batch
from formwright.data.array_batches import ArrayBatches
from formwright.data.labelled_series import LabelledSeries, labelled_series, read_labelled_series
from formwright.data.samples import control_charts
from formwright.data.splits import evenly_spaced
from formwright.deployment.series_classes import SeriesClassPreparation
from formwright.fitting.classification import ClassificationTask
from formwright.fitting.forecast_page import series_path
from formwright.fitting.records import Baseline
from formwright.fitting.task import TASKS, Peer, Reading, Words
from formwright.metrics.baselines import Baseline as Answers
from formwright.metrics.baselines import majority_class
from formwright.models.identification import Pretrained
from formwright.search.series import LabelledShape, SeriesClassSpace

FEWEST_PASSES = 10
#: Of a drawing of a mistaken series.
MOST_POINTS = 200


@TASKS.register("series-classification")
class SeriesClassification(ClassificationTask):
    """Series, each of one class."""

    name: ClassVar[str] = "series-classification"
    order: ClassVar[int] = 30
    options: ClassVar[Mapping[str, str]] = {
        "label_column": "the column of the classes",
        "series": "the column that says which series a row is of, where a series has many rows",
        "time": "the column of times, where a series has many rows",
    }
    words: ClassVar[Words] = Words(
        model="a classifier of series",
        sample="series",
        samples="series",
        argument="series.csv",
        answer="the class of each series and its probability",
        figure="Share of the test series that each one gets right",
    )
    peer: ClassVar[Peer] = Peer("plain Transformer", "patch-attention")
    template: ClassVar[str] = "series_classes.html.j2"
    keeps_best: ClassVar[bool] = True

    def __init__(self, data: LabelledSeries) -> None:
        self.data = data
        self.source = data.source
        self.class_names = data.class_names
        self.samples = {part: len(data.split.part(part)) for part in ("train", "val", "test")}
        self.inputs = {part: data.inputs(data.split.part(part)) for part in ("train", "val", "test")}
        self.notes = data.notes

    @classmethod
    def recognise(cls, path: Path | None) -> str | None:
        return None  # a table of numbers with a column of classes may be anything: the task is to be named

    @classmethod
    def read(
        cls,
        path: str | Path | None,
        *,
        seed: int,
        skip_bad: bool = False,
        pretrained: Pretrained | None = None,
        progress: Reading | None = None,
        **options: Any,
    ) -> Self:
        if path is None:
            return cls(labelled_series(*control_charts(), source="six kinds of control charts, generated", seed=seed))
        names = {"label": options.get("label_column"), "series": options.get("series"), "time": options.get("time")}
        return cls(read_labelled_series(path, **names, seed=seed))

    def save_splits(self, path: str | Path) -> None:
        self.data.save_splits(path)

    def check_splits(self, path: str | Path) -> None:
        self.data.check_splits(path)

    def training_batches(self, batch_size: int, *, seed: int) -> ArrayBatches:
        return ArrayBatches(self.inputs["train"], self.part_labels("train"), batch_size=batch_size, seed=seed)

    def evaluation_batches(
        self, part: str, *, batch_size: int | None = None, most: int | None = None
    ) -> Iterator[Batch]:
        chosen = np.arange(self.samples[part])
        if most is not None:
            chosen = evenly_spaced(chosen, most)
        labels, size = self.part_labels(part), batch_size or 256
        for start in range(0, len(chosen), size):
            rows = chosen[start : start + size]
            yield Batch(torch.from_numpy(self.inputs[part][rows]), torch.from_numpy(labels[rows]))

    def part_labels(self, part: str) -> NDArray[np.int64]:
        return self.data.labels[self.data.split.part(part)]

    def part_names(self, part: str) -> Sequence[tuple[int, str]]:
        return [(int(index), self.data.names[index]) for index in self.data.split.part(part)]

    @property
    def space(self) -> SeriesClassSpace:
        data = self.data
        return SeriesClassSpace(LabelledShape(data.length, data.variates, len(self.class_names), self.samples["train"]))

    @property
    def worthwhile_samples(self) -> float:
        return float(FEWEST_PASSES * self.samples["train"])

    def baselines(self, *, seconds: float, seed: int) -> list[Baseline]:
        labels, classes = self.part_labels("train"), len(self.class_names)
        majority = majority_class(labels, self.samples["test"], classes)
        return [self.scored(majority), self.scored(self._regression(labels, classes))]

    def _regression(self, labels: NDArray[np.int64], classes: int) -> Answers:
        """Logistic regression on the scaled values and on the logarithms of their power spectrum."""
        from sklearn.linear_model import LogisticRegression

        started = time.perf_counter()
        features = {part: _features(self.inputs[part]) for part in ("train", "test")}
        model = LogisticRegression(max_iter=200)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it may stop before it converges
            model.fit(features["train"], labels)
        probabilities = np.zeros((self.samples["test"], classes))
        probabilities[:, model.classes_] = model.predict_proba(features["test"])
        note = "on the scaled values and their power spectrum"
        return Answers("logistic regression", probabilities, time.perf_counter() - started, note)

    def preprocessing(self) -> SeriesClassPreparation:
        data = self.data
        return SeriesClassPreparation(data.columns, data.length, data.scaling, tuple(self.class_names))

    def describe(self) -> dict[str, Any]:
        data = self.data
        return {
            "series": len(data.raw),
            **self.describe_classes(),
            "length": data.length,
            "variates": data.variates,
        }

    def attachments(self, details: Mapping[str, Any]) -> dict[int, Any]:
        found = {}
        for mistake in details["mistakes"]:
            (values,) = self.data.inputs(np.array([mistake["index"]]))
            found[mistake["index"]] = [series_path(column, MOST_POINTS) for column in values.T[:4]]
        return found

    @classmethod
    def data_facts(cls, data: Mapping[str, Any]) -> list[tuple[str, str]]:
        several = f", {data['variates']} variates" if data["variates"] > 1 else ""
        return [("series", f"{data['series']:,} of {data['length']:,} steps{several}")]


def _features(inputs: NDArray[np.float32]) -> NDArray[np.float64]:
    """``(series, features)``: values, and how strong each frequency is."""
    power = np.abs(np.fft.rfft(inputs.astype(np.float64), axis=1)) ** 2
    features = np.concatenate([inputs.reshape(len(inputs), -1), np.log1p(power).reshape(len(inputs), -1)], axis=1)
    return np.asarray(features, np.float64)
