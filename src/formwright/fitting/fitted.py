"""Simple competitors on a bench: a solver finds their weights, and from then on they are networks like others."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from formwright.errors import CandidateError
from formwright.fitting.bench import Bench
from formwright.fitting.records import CurvePoint, Trial
from formwright.models import Network
from formwright.models.solving import fit_head
from formwright.training.evaluation import runner

if TYPE_CHECKING:
    from formwright.candidates import Take

#: A training step takes as long as so many looks at its samples; a solver gets so many samples at least.
FORWARD_STEPS, FEWEST_SAMPLES = 3, 500
#: Values of all inputs that a solver holds at once at most: 2 GB in float32.
MOST_INPUTS = 2**29


def fit_weights(bench: Bench, trial: Trial, parts: Sequence[str], seconds: float = math.inf) -> Network:
    """A simple competitor with the weights that a solver finds on some parts.

    Features of a large network take a while: in ``seconds``, as many samples are looked at as can be.

    Raises:
        CandidateError: there are none.
    """
    affordable = max(MOST_INPUTS / bench.task.data.example().numel(), FEWEST_SAMPLES)
    if math.isfinite(seconds) and trial.step:
        looked = seconds * FORWARD_STEPS * trial.recipe["batch_size"] / trial.step
        affordable = min(affordable, max(looked, FEWEST_SAMPLES))

    def take(most: int) -> tuple[Tensor, NDArray[np.int64]]:
        return bench.task.data.some(parts, int(min(most, affordable)))

    return solved(bench, trial, take)


def solved(bench: Bench, trial: Trial, take: Take) -> Network:
    """A simple competitor with the weights that its solver finds on samples.

    Raises:
        CandidateError: there are none.
    """
    solve = fit_head if "weights" in trial.proposal else bench.task.space.families[trial.family].fit
    assert solve is not None
    model = bench.build(trial).eval()
    try:
        solve(model, take, 1000 * bench.seed + trial.number)
    except ValueError as error:
        raise CandidateError(f"A solver found no weights for {trial.name}: {error}") from error
    return model.eval()


def fit_competitor(bench: Bench, trial: Trial, seconds: float = math.inf) -> None:
    """Find the weights on the training part, score them and write both down."""
    started = time.monotonic()
    model = fit_weights(bench, trial, ("train",), seconds)
    seconds = time.monotonic() - started
    trial.curve = []
    score = bench.task.goal.score(runner(model), "val")
    bench.add_point(trial, model, CurvePoint(0, seconds, None, score, 0.0))
