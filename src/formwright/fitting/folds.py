"""Scores by cross-validation where samples are few: what is chosen by six validation samples is chosen by chance.

The training and the validation part together are dealt into :data:`FOLDS` folds, classes (or large and small numbers)
evenly and copies of a sample together. A candidate learns anew without each fold and answers for it, so that its score
rests on every sample once; where these are few, they are dealt several times and the scores are averaged.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from formwright.data.splits import content_digests
from formwright.fitting.bench import Bench
from formwright.fitting.fitted import solved
from formwright.fitting.kind import PARTS
from formwright.fitting.records import FoldScore, Trial
from formwright.fitting.refits import trained_anew
from formwright.models import Network
from formwright.training.evaluation import runner
from formwright.training.recipe import Recipe

FOLDS = 5
#: Answers that say enough where there is no time for all folds.
FEWEST_ANSWERS = 100
#: Samples are dealt again until there are about so many answers, so many times at most.
ANSWERS, MOST_DEALS = 200, 3
#: Samples that are asked about together.
CHUNK = 256


def deal(targets: NDArray[Any], groups: NDArray[Any], seed: int) -> NDArray[np.int64]:
    """The fold of each sample, 0 to ``FOLDS - 1``: similar targets are spread, samples of a group stay together."""
    random = np.random.default_rng(seed)
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    order = random.permutation(len(first))
    order = order[np.argsort(targets.reshape(len(targets), -1)[first[order], 0], kind="stable")]
    fold_of = np.empty(len(first), np.int64)
    fold_of[order] = np.concatenate([random.permutation(FOLDS) for _ in range(0, len(order), FOLDS)])[: len(order)]
    return np.asarray(fold_of[group])


def score_by_folds(bench: Bench, trial: Trial, seconds: float, attempts: Mapping[str, Any] | None) -> FoldScore | None:
    """The score of a candidate on folds in some ``seconds``: on as many as there is time for, if that gives
    :data:`FEWEST_ANSWERS` or all folds are done; otherwise none.

    A simple competitor is solved anew. A network is trained anew, for as many steps as led to its kept weights.

    Args:
        attempts: the fact ``attempts`` of the run, if there is one.
    """
    data, began = bench.task.data, time.monotonic()
    inputs, targets = data.some(PARTS[:2], sum(data.samples_of.values()))
    rows = np.ascontiguousarray(inputs.numpy())
    groups = content_digests(rows.reshape(len(rows), -1).view(np.uint8))

    def learned(chosen: NDArray[np.int64], number: int, end: float) -> Network | None:
        if trial.fitted:
            return solved(bench, trial, lambda most: (inputs[chosen], targets[chosen]))
        batches = data.batches_of(rows[chosen], targets[chosen], Recipe(**trial.recipe).batch_size, seed=number)
        return None if batches is None else trained_anew(bench, trial, batches, attempts, end)

    def answered(fold_of: NDArray[np.int64], dealt: int, least: int) -> FoldScore | None:
        """The score on the folds of a deal; none if there is no time for so many folds."""
        outputs, asked = list[NDArray[Any]](), list[NDArray[Any]]()
        for fold in range(FOLDS):
            started = time.monotonic()
            model = learned(np.flatnonzero(fold_of != fold), FOLDS * dealt + fold, began + seconds)
            if model is None:
                break
            outputs += map(runner(model), torch.split(inputs[fold_of == fold], CHUNK))
            asked.append(targets[fold_of == fold])
            bench.progress((FOLDS * dealt + fold + 1) / (FOLDS * deals), f"{trial.name}: folds")
            now = time.monotonic()
            if now + max(least - fold - 1, 1) * (now - started) > began + seconds:
                break
        if len(asked) < least:
            return None
        said, goal = (np.concatenate(outputs), np.concatenate(asked)), bench.task.goal
        return FoldScore(goal.scored(*said), len(said[1]), len(asked), loss=goal.loss(*said))

    deals = min(MOST_DEALS, -(-ANSWERS // len(targets)))
    least = min(FOLDS, -(-FEWEST_ANSWERS * FOLDS // len(targets)))
    found = [answered(deal(targets, groups, bench.seed), 0, least)]
    while len(found) < deals and found[-1] is not None and found[-1].folds == FOLDS:
        found.append(answered(deal(targets, groups, bench.seed + len(found)), len(found), FOLDS))
    whole = [one for one in found if one is not None]
    if not whole:
        return None
    losses = [one.loss for one in whole if one.loss is not None]
    return replace(
        whole[0],
        score=float(np.mean([one.score for one in whole])),
        deals=len(whole),
        seconds=time.monotonic() - began,
        loss=float(np.mean(losses)) if losses else None,
    )
