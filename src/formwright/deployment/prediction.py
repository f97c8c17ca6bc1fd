"""Predictions of an exported folder: ``model.onnx`` and ``preprocessing.json``, without PyTorch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from formwright.deployment.preparation import Answer, load_preparation
from formwright.deployment.runtime import OnnxModel
from formwright.errors import UserError
from formwright.reporting import SILENT, Reporter

MODEL_FILE = "model.onnx"


def predict(
    folder: str | os.PathLike[str],
    inputs: Sequence[str | os.PathLike[str]],
    *,
    out: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    reporter: Reporter = SILENT,
) -> list[Answer]:
    """What the model in ``folder`` says of each of ``inputs``, in order: files, or what else its task takes.

    Args:
        folder: what ``fit`` shipped.
        inputs: at least one.
        out: where the answers are written besides: a table of forecasts, for one.
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
    if not inputs:
        raise UserError("There is nothing to predict; name at least one file.")
    model = OnnxModel(folder / MODEL_FILE, threads)
    answers = preparation.predict(model, [os.fspath(one) for one in inputs], reporter)
    return list(answers if out is None else preparation.write(answers, Path(out), reporter))
