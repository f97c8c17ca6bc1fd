"""Scores of a model over batches, and the choice of the faster precision."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from formwright.batch import Batch, Inputs, call
from formwright.objectives import Objective
from formwright.training.recipe import Precision

PRECISIONS: tuple[Precision, ...] = ("32-true", "bf16-mixed")


@torch.inference_mode()
def predict_scores(
    model: nn.Module, batches: Iterable[Batch], *, precision: Precision = "32-true"
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Scores ``(n, classes)`` of all batches, in eval mode, and the targets ``(n,)``."""
    model.eval()
    scores, targets = [], []
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
        for batch in batches:
            scores.append(call(model, batch.inputs).float().numpy())
            targets.append(batch.targets.numpy())
    return np.concatenate(scores), np.concatenate(targets)


def runner(model: nn.Module, *, precision: Precision = "32-true") -> Callable[[Inputs], Any]:
    """The model in eval mode as a function from inputs to outputs in NumPy, each a single one or several by name."""
    model.eval()

    def run(inputs: Inputs) -> Any:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            outputs = call(model, inputs)
        if isinstance(outputs, Mapping):
            return {name: _numpy(output) for name, output in outputs.items()}
        return _numpy(outputs)

    return run


def _numpy(output: Tensor) -> NDArray[np.float32]:
    return np.asarray(output.float().numpy())


def accuracy_of(model: nn.Module, batches: Iterable[Batch], *, precision: Precision = "32-true") -> float:
    scores, targets = predict_scores(model, batches, precision=precision)
    return float((scores.argmax(1) == targets).mean())


def faster_precision(model: nn.Module, objective: Objective, batch: Batch, *, repeats: int = 4) -> Precision:
    """``bf16-mixed`` where a timed training step is a tenth faster with it on this machine, ``32-true`` otherwise.

    The two take turns, and the fastest of each counts, so that other work on the machine does not decide.
    """
    seconds = dict.fromkeys(PRECISIONS, math.inf)
    for _ in range(repeats):
        for precision in PRECISIONS:
            taken = step_seconds(model, objective, batch, precision, repeats=1)
            seconds[precision] = min(seconds[precision], taken)
    return "bf16-mixed" if seconds["bf16-mixed"] < 0.9 * seconds["32-true"] else "32-true"


def step_seconds(
    model: nn.Module, objective: Objective, batch: Batch, precision: Precision, *, repeats: int = 2
) -> float:
    """Seconds of a training step without the optimiser, the fastest of ``repeats`` after one to warm up."""
    trained = copy.deepcopy(model).train()
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            losses = [phase.run(trained, batch, 0.0).loss for phase in objective.phases(trained)]
        for loss in losses:
            loss.backward()  # type: ignore[no-untyped-call]
        times.append(time.perf_counter() - started)
    objective.zero_grad(set_to_none=True)  # of what it owns: it is not a copy
    return min(times[1:])
