"""Learning curves for TensorBoard, beside the log of a run."""

from __future__ import annotations

import contextlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from formwright.errors import UserError
from formwright.fitting.metric import Metric
from formwright.reporting import Reporter

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def check_tensorboard() -> None:
    """Raise a ``UserError`` unless event files can be written."""
    if importlib.util.find_spec("tensorboard") is None:
        raise UserError(
            'Curves for TensorBoard need the package tensorboard, which is not installed: pip install "formwright['
            'tensorboard]", or leave --tensorboard out.'
        )


class Curves(Reporter):
    """Writes the scores of candidates as event files, a folder per candidate, which TensorBoard draws over each other.

    At every evaluation: ``training loss``, ``learning rate`` and ``validation KEY`` by training steps, where KEY is
    that of the metric in ``metrics.json``.

    Args:
        folder: where they go, ``tensorboard`` in the folder of the run.
        metric: what candidates are scored by; told as users read it, so that an error goes down.
    """

    def __init__(self, folder: Path, metric: Metric) -> None:
        self._folder, self._metric = folder, metric
        self._writers: dict[str, SummaryWriter] = {}

    def event(self, name: str, text: str = "", /, **values: Any) -> None:
        if name != "score":
            return
        from torch.utils.tensorboard import SummaryWriter

        called = f"{values['number']:02d} {values['name']}".replace("/", "-")
        told = {
            "training loss": values["loss"],
            "learning rate": values["learning_rate"],
            f"validation {self._metric.key}": self._metric.figure(values["score"]),
        }
        with contextlib.suppress(OSError):  # a run needs no curves
            if called not in self._writers:
                self._writers[called] = SummaryWriter(str(self._folder / called))
            for tag, value in told.items():
                if value is not None:
                    self._writers[called].add_scalar(tag, value, values["step"])
            self._writers[called].flush()

    def close(self) -> None:
        for writer in self._writers.values():
            with contextlib.suppress(OSError):
                writer.close()
