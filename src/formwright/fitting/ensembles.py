"""The average of the best few candidates, on a bench: who joins, and whether it is better than the best alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

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
        mirrored: whether each is asked about the mirror image too.
    """

    members: list[int]
    gain: float
    noise: float
    mirrored: bool = False

    @property
    def better(self) -> bool:
        """Whether it gains more than chance might."""
        return (len(self.members) > 1 or self.mirrored) and self.gain > self.noise


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
    return Found(members, *_gained(reached - alone[best]))


def with_mirror_images(found: Found, plain: Values, mirrored: Values, alone: Values, scores: Any) -> Found:
    """What was found, or the same members with mirror images where these gain more than chance might.

    Args:
        plain, mirrored: probabilities by the members, ``(samples, classes)``, of samples and of their mirror images.
        alone: those by the best one alone.
        scores: the score of each sample, from probabilities.
    """
    both = scores((plain + mirrored) / 2)
    gain, noise = _gained(both - scores(plain))
    return Found(found.members, *_gained(both - scores(alone)), mirrored=True) if gain > noise else found


def _gained(differences: Values) -> tuple[float, float]:
    """The mean of the differences of samples, and its standard error."""
    return float(differences.mean()), float(differences.std() / math.sqrt(len(differences)))


def average(bench: Bench, trials: Sequence[Trial], winner: int, limits: Sequence[float]) -> tuple[Found, Network]:
    """The best average of what candidates say, of the mirror images too where it pays, as one network.

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

    def said(model: nn.Module, *, mirrored: bool = False) -> Values:
        run = runner(model)
        return softmax(np.concatenate([run(batch.inputs.flip(-1) if mirrored else batch.inputs) for batch in batches]))

    probabilities = [said(model) for model in models]
    costs = [(trial.onnx_latency or trial.eager_latency, trial.size, trial.macs) for trial in trials]
    found = find_members(probabilities, scores, costs, limits)
    seconds, _, macs = (sum(costs[place][kind] for place in found.members) for kind in range(3))
    if bench.task.data.mirrors and 2 * seconds <= limits[0] and 2 * macs <= limits[2]:
        plain = np.mean([probabilities[place] for place in found.members], axis=0)
        mirrored = np.mean([said(models[place], mirrored=True) for place in found.members], axis=0)
        found = with_mirror_images(found, plain, mirrored, probabilities[found.members[0]], scores)
    chosen = [models[place] for place in found.members]
    specification = EnsembleSpec(
        family="ensemble",
        name="ensemble",
        task=bench.task.name,
        members=tuple(model.specification.to_dict() for model in chosen),  # type: ignore[union-attr, operator]
        mirrored=found.mirrored,
    )
    ensemble = create_model(specification)
    for own, model in zip(ensemble.members, chosen, strict=True):  # type: ignore[arg-type]
        own.load_state_dict(model.state_dict())
    return found, ensemble.eval()
