"""Simple competitors on a bench: a solver finds their weights, and from then on they are networks like others."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from formwright.errors import CandidateError
from formwright.fitting.bench import Bench
from formwright.fitting.kind import Data
from formwright.fitting.records import CurvePoint, Trial
from formwright.models import Network
from formwright.training.evaluation import runner


def samples_of(data: Data, parts: Sequence[str], most: int) -> tuple[Tensor, NDArray[np.int64]]:
    """So many samples of some parts at most, evenly spaced: inputs as the model takes them, and targets."""
    share = min(1.0, most / max(sum(data.samples_of[part] for part in parts), 1))
    counts = {part: max(round(share * data.samples_of[part]), 1) for part in parts}
    batches = [batch for part in parts for batch in data.evaluation_batches(part, most=counts[part])]
    return torch.cat([batch.inputs for batch in batches]), torch.cat([batch.targets for batch in batches]).numpy()


def fit_weights(bench: Bench, trial: Trial, parts: Sequence[str]) -> Network:
    """A simple competitor with the weights that a solver finds on some parts.

    Raises:
        CandidateError: there are none.
    """
    solve = bench.task.space.families[trial.family].fit
    assert solve is not None
    model = bench.build(trial)
    try:
        solve(model, lambda most: samples_of(bench.task.data, parts, most), 1000 * bench.seed + trial.number)
    except ValueError as error:
        raise CandidateError(f"A solver found no weights for {trial.name}: {error}") from error
    return model.eval()


def fit_competitor(bench: Bench, trial: Trial) -> None:
    """Find the weights on the training part, score them and write both down."""
    started = time.monotonic()
    model = fit_weights(bench, trial, ("train",))
    seconds = time.monotonic() - started
    trial.curve = []
    score = bench.task.goal.score(runner(model), "val")
    bench.add_point(trial, model, CurvePoint(0, seconds, None, score, 0.0))
