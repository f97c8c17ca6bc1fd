"""Predictions of an exported folder: ``model.onnx`` and ``preprocessing.json``, without PyTorch."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from formwright.deployment.inputs import InputOptions, as_files, files_in
from formwright.deployment.preparation import Answer, load_preparation
from formwright.deployment.runtime import OnnxModel
from formwright.errors import UserError
from formwright.reporting import SILENT, Reporter

MODEL_FILE = "model.onnx"


def predict(
    folder: str | os.PathLike[str],
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    out: str | os.PathLike[str] | None = None,
    encoding: str | None = None,
    text_column: str | None = None,
    skip_bad: bool = False,
    threads: int | None = None,
    reporter: Reporter = SILENT,
) -> list[Answer]:
    """What the model in ``folder`` says of each of ``inputs``, in order: files, or what else its task takes.

    Args:
        folder: what ``fit`` shipped.
        inputs: one or several; a folder stands for the files in it, and ``-`` for standard input.
        out: where the answers are written besides: a table of forecasts, for one.
        encoding: of texts and tables that are neither marked nor UTF-8.
        text_column: of the texts in tables, by name or number; that of training, or what is found, if unset.
        skip_bad: leave out what cannot be used, and tell the reporter, instead of refusing all.
        threads: processor threads, all if unset.
        reporter: hears of the progress.

    Raises:
        UserError: the folder does not hold an exported model, nothing is given, an input cannot be used, or the
            answers cannot be written.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}; give one that a fitted model was shipped to.")
    preparation = load_preparation(folder)
    asked = [os.fspath(inputs)] if isinstance(inputs, str | os.PathLike) else [os.fspath(one) for one in inputs]
    if not asked:
        raise UserError("There is nothing to predict; name at least one file.")
    if text_column is not None and not preparation.reads_texts:
        raise UserError(f"A model of {preparation.of} reads no column of texts (--text-column); leave it out.")
    how = InputOptions(encoding, text_column, skip_bad)
    model = OnnxModel(folder / MODEL_FILE, threads)
    with nullcontext(asked) if preparation.reads_texts else as_files(asked) as given:
        files = files_in(given, preparation.suffixes, preparation.of, reporter)
        answers = preparation.predict(model, files, reporter, how)
        found = list(answers if out is None else preparation.write(answers, Path(out), reporter, how))
        names = dict(zip(given, asked, strict=True))  # what came on standard input lay in a file for a while
        return [_called(answer, names) for answer in found]


def _called(answer: Answer, names: Mapping[str, str]) -> Answer:
    """An answer about a file by the name that was given."""
    file: Any = getattr(answer, "file", None)
    return dataclasses.replace(answer, file=names[file]) if names.get(file, file) != file else answer  # type: ignore[type-var]
