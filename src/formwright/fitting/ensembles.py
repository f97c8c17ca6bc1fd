"""The average of the best few candidates, on a bench: who joins, and whether it is better than the best alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formwright.fitting.bench import Bench
from formwright.fitting.records import Trial
from formwright.metrics.classification import softmax
from formwright.models import Network, create_model, from_pretrained
from formwright.models.topologies.ensemble import EnsembleSpec
from formwright.training.evaluation import runner

MOST_MEMBERS = 4

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Found:
    """Which of the candidates are averaged, the best one first, and what the average gains on validation samples.

    Attributes:
        members: places among the candidates.
        gain: the mean over samples of the average's score less that of the best one alone.
        noise: the standard error of that mean.
    """

    members: list[int]
    gain: float
    noise: float

    @property
    def better(self) -> bool:
        """Whether it gains more than chance might."""
        return len(self.members) > 1 and self.gain > self.noise


def find_members(
    probabilities: Sequence[Values], scores: Any, costs: Sequence[Sequence[float]], limits: Sequence[float]
) -> Found:
    """Begin with the best candidate, and add whoever helps the average most, while one does and the budget allows.

    Args:
        probabilities: of each candidate, ``(samples, classes)``.
        scores: the score of each sample, ``(samples,)``, from probabilities.
        costs: what each candidate costs; sums of them are held against the ``limits``.

    Source: Ensemble Selection from Libraries of Models, ICML 2004.
    """
    alone = [scores(one) for one in probabilities]
    best = max(range(len(alone)), key=lambda place: (alone[place].mean(), -place))
    members, reached = [best], alone[best]
    while len(members) < MOST_MEMBERS:
        options = {}
        for place in range(len(alone)):
            joined = [*members, place]
            spent = [sum(costs[member][kind] for member in joined) for kind in range(len(limits))]
            if place not in members and all(cost <= limit for cost, limit in zip(spent, limits, strict=True)):
                options[place] = scores(np.mean([probabilities[member] for member in joined], axis=0))
        if not options:
            break
        place = max(options, key=lambda option: (options[option].mean(), -option))
        if options[place].mean() <= reached.mean():
            break
        members, reached = [*members, place], options[place]
    difference = reached - alone[best]
    return Found(members, float(difference.mean()), float(difference.std() / math.sqrt(len(difference))))


def average(bench: Bench, trials: Sequence[Trial], winner: int, limits: Sequence[float]) -> tuple[Found, Network]:
    """The best average of what candidates say, as one network.

    Args:
        trials: the candidates.
        winner: the number of the trial whose exported form is meant, not what the race left.
        limits: seconds, bytes and multiply-accumulates that members may have together.
    """
    models = [
        from_pretrained(bench.paths.variant("trained")) if trial.number == winner else bench.trained(trial)
        for trial in trials
    ]
    bench.forget_all_but([])
    goal, batches = bench.task.goal, list(bench.task.data.evaluation_batches("val"))
    targets = np.concatenate([batch.targets.numpy() for batch in batches])

    def scores(probabilities: Values) -> Values:
        rows = range(len(targets))
        outputs = probabilities.astype(np.float32)
        counted = [goal.counted(outputs[row : row + 1], targets[row : row + 1]) for row in rows]
        return np.array([goal.metric.score(total / count) for total, count in counted])

    probabilities = []
    for model in models:
        run = runner(model)
        probabilities.append(softmax(np.concatenate([run(batch.inputs) for batch in batches])))
    costs = [(trial.onnx_latency or trial.eager_latency, trial.size, trial.macs) for trial in trials]
    found = find_members(probabilities, scores, costs, limits)
    chosen = [models[place] for place in found.members]
    specification = EnsembleSpec(
        family="ensemble",
        name="ensemble",
        task=bench.task.name,
        members=tuple(model.specification.to_dict() for model in chosen),  # type: ignore[union-attr, operator]
    )
    ensemble = create_model(specification)
    for own, model in zip(ensemble.members, chosen, strict=True):  # type: ignore[arg-type]
        own.load_state_dict(model.state_dict())
    return found, ensemble.eval()
