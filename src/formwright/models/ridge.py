"""Ridge regression, with the strength that leaving out one sample at a time finds, for numbers and for classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

#: How much weights weigh against errors, of features of deviation one.
STRENGTHS = tuple(10.0**power for power in np.arange(-3.0, 5.1, 0.5))
#: Directions of the features that are noise, by their share of the largest eigenvalue.
LEAST_EIGENVALUE = 1e-10
#: What scores of classes may be multiplied by before their softmax.
SHARPNESS = tuple(np.geomspace(0.5, 32.0, 25))


@dataclass(frozen=True)
class Ridge:
    """``y = x weight + bias``: ``weight`` ``(features, outputs)``, ``bias`` ``(outputs,)``.

    ``held_out`` ``(samples, outputs)`` is what the same strength gives each sample without having learned it.
    """

    weight: Values
    bias: Values
    held_out: Values


def ridge(features: NDArray[np.floating], targets: Values, strengths: Sequence[float] = STRENGTHS) -> Ridge:
    """Minimise ``|y - x w - b|^2 + a |w|^2``, with the strength ``a`` that has the least error on samples left out.

    The error of a sample that was left out is ``(y - y') / (1 - h)`` with its leverage ``h``, so one decomposition of
    ``(samples, features)``, the shorter side of which counts, is all that is needed.

    Source: Generalized Cross-Validation as a Method for Choosing a Good Ridge Parameter, Technometrics 21 (2), 1979,
    whose exact form (PRESS) is taken.
    """
    middle, mean = features.mean(0, dtype=np.float64), targets.mean(0)
    x, y = features - middle.astype(features.dtype), targets - mean
    wide = x.shape[1] > len(x)
    values, vectors = np.linalg.eigh((x @ x.T if wide else x.T @ x).astype(np.float64))
    kept = values > LEAST_EIGENVALUE * max(values.max(), 1e-300)
    values, vectors = values[kept], vectors[:, kept]
    left = vectors if wide else x @ vectors / np.sqrt(values)
    found = left.T @ y
    best = None
    for strength in strengths:
        shares = values / (values + strength)
        fitted = left @ (shares[:, None] * found)
        leverage = 1 / len(x) + np.square(left) @ shares
        errors = (y - fitted) / np.maximum(1 - leverage, 1e-9)[:, None]
        loss = float(np.square(errors).sum())
        if best is None or loss < best[0]:
            best = loss, strength, targets - errors
    assert best is not None
    _, strength, held_out = best
    inner = found / (values + strength)[:, None]
    weight = x.T @ (left @ inner) if wide else vectors @ (np.sqrt(values)[:, None] * inner)
    weight = weight.astype(np.float64)
    return Ridge(weight, mean - middle @ weight, held_out)


def ridge_classifier(features: NDArray[np.floating], labels: NDArray[np.int64], classes: int) -> tuple[Values, Values]:
    """Weights ``(classes, features)`` and biases ``(classes,)`` whose softmax is the probability of each class.

    A ridge learns 1 for the class of a sample and -1 for every other one; scores are multiplied by the number with the
    least log loss on samples left out, of which one in ``samples + 2`` is taken to be wrong. A class without samples
    has a bias that makes its probability nothing.
    """
    there, places = np.unique(labels, return_inverse=True)
    signs = np.where(places[:, None] == np.arange(len(there)), 1.0, -1.0)
    found = ridge(features, signs)
    doubt = 1 / (len(labels) + 2)
    wanted = np.where(signs > 0, 1 - doubt, doubt / max(len(there) - 1, 1))
    losses = []
    for sharpness in SHARPNESS:
        scores = sharpness * found.held_out
        scores = scores - scores.max(1, keepdims=True)
        losses.append(-(wanted * (scores - np.log(np.exp(scores).sum(1, keepdims=True)))).sum())
    sharpness = SHARPNESS[int(np.argmin(losses))]
    weight, bias = np.zeros((classes, features.shape[1])), np.full(classes, -100.0)
    weight[there], bias[there] = sharpness * found.weight.T, sharpness * found.bias
    return weight, bias
