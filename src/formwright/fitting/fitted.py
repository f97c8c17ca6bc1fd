"""Simple competitors on a bench: a solver finds their weights, and from then on they are networks like others."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from formwright.errors import CandidateError
from formwright.fitting.bench import Bench
from formwright.fitting.records import CurvePoint, Trial
from formwright.models import Network
from formwright.training.evaluation import runner


def fit_weights(bench: Bench, trial: Trial, parts: Sequence[str]) -> Network:
    """A simple competitor with the weights that a solver finds on some parts.

    Raises:
        CandidateError: there are none.
    """
    solve = bench.task.space.families[trial.family].fit
    assert solve is not None
    model = bench.build(trial)
    try:
        solve(model, partial(bench.task.data.some, parts), 1000 * bench.seed + trial.number)
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
