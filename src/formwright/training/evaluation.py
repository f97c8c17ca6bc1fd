"""Scores of a model over batches, and the choice of the faster precision."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from formwright.batch import Batch
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
            scores.append(model(batch.inputs).float().numpy())
            targets.append(batch.targets.numpy())
    return np.concatenate(scores), np.concatenate(targets)


def accuracy_of(model: nn.Module, batches: Iterable[Batch], *, precision: Precision = "32-true") -> float:
    scores, targets = predict_scores(model, batches, precision=precision)
    return float((scores.argmax(1) == targets).mean())


def fastest_computation(
    model: nn.Module, objective: Objective, batch: Batch, *, threads: int, repeats: int = 2
) -> tuple[Precision, int]:
    """The precision and the number of threads (one, or all ``threads``) with which a training step is fastest here.

    bfloat16 is taken only where a timed step gains a tenth, and so are more threads: small models, and machines that
    are busy with other work, lose time by waiting for the second thread.
    """
    seconds: dict[tuple[Precision, int], float] = {}
    before = torch.get_num_threads()
    try:
        for count in sorted({1, threads}):
            torch.set_num_threads(count)
            for precision in PRECISIONS:
                seconds[precision, count] = step_seconds(model, objective, batch, precision, repeats=repeats)
    finally:
        torch.set_num_threads(before)
    best: tuple[Precision, int] = ("32-true", 1)
    for choice, time_taken in seconds.items():
        if time_taken < 0.9 * seconds[best]:
            best = choice
    return best


def step_seconds(
    model: nn.Module, objective: Objective, batch: Batch, precision: Precision, *, repeats: int = 2
) -> float:
    """Seconds of a training step without the optimiser, the fastest of ``repeats`` after one to warm up."""
    trained = copy.deepcopy(model).train()
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            loss = objective(trained, batch, 0.0).loss
        loss.backward()
        times.append(time.perf_counter() - started)
    return min(times[1:])
