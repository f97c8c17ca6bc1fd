"""Predictions of an exported folder: ``model.onnx`` and ``preprocessing.json``, without PyTorch."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from formwright.deployment.preprocessing import FILE
from formwright.deployment.runtime import OnnxModel
from formwright.errors import UnknownNameError, UserError
from formwright.files import read_json
from formwright.reporting import SILENT, Reporter

MODEL_FILE = "model.onnx"

#: What reads ``preprocessing.json``, by the task that it names: module and class.
PREPROCESSINGS: dict[str, tuple[str, str]] = {
    "image-classification": ("formwright.deployment.preprocessing", "Preprocessing"),
    "language-modelling": ("formwright.deployment.language", "LanguagePreprocessing"),
    "series-classification": ("formwright.deployment.series_classes", "SeriesClassPreparation"),
    "forecasting": ("formwright.deployment.forecasting", "ForecastPreparation"),
    "text-classification": ("formwright.deployment.text", "TextPreprocessing"),
}


class Answer(Protocol):
    """What is said of one input."""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""

    def cells(self) -> dict[str, str]:
        """A row of a table: text by column."""


class Preparation(Protocol):
    """What a task ships beside its model."""

    def predict(self, model: OnnxModel, inputs: Sequence[str], reporter: Reporter = SILENT) -> Iterator[Answer]:
        """What ``model`` says of each of ``inputs``, in order; ``reporter`` hears how far it is."""


def load_preparation(folder: Path) -> Preparation:
    """Read ``preprocessing.json`` in ``folder``.

    Raises:
        UserError: it is missing, not valid, or of a task that this version does not know.
    """
    values = read_json(folder / FILE)
    task = values.get("task", "image-classification") if isinstance(values, dict) else "image-classification"
    if task not in PREPROCESSINGS:
        raise UnknownNameError("task", str(task), PREPROCESSINGS)
    module, name = PREPROCESSINGS[task]
    preparation: Preparation = getattr(importlib.import_module(module), name).load(folder)
    return preparation


def predict(
    folder: str | os.PathLike[str],
    inputs: Sequence[str | os.PathLike[str]],
    *,
    threads: int | None = None,
    reporter: Reporter = SILENT,
) -> list[Answer]:
    """What the model in ``folder`` says of each of ``inputs``, in order: files, or what else its task takes.

    Raises :class:`UserError` where the folder does not hold an exported model, nothing is given, or an input cannot
    be used.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}; give one that a fitted model was shipped to.")
    preparation = load_preparation(folder)
    if not inputs:
        raise UserError("There is nothing to predict; name at least one file.")
    model = OnnxModel(folder / MODEL_FILE, threads)
    return list(preparation.predict(model, [os.fspath(one) for one in inputs], reporter))
