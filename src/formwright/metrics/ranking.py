"""Scores of classifiers that ask how they rank examples, and the log loss that counts every class alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formwright.errors import UserError
from formwright.metrics.classification import check_probabilities


@dataclass(frozen=True)
class RankingScores:
    """How well ``probabilities`` rank examples, each class against all others.

    ``roc_auc`` is the area under true positive rate over false positive rate, ``average_precision`` that under
    precision over recall (as a step function). ``micro_`` takes every class of every example as one case, ``macro_`` is
    the mean over the classes, which ``of_classes`` lists; a class that does not occur (or nothing else does) has none.
    """

    micro_roc_auc: float
    macro_roc_auc: float
    micro_average_precision: float
    macro_average_precision: float
    roc_auc_of_classes: list[float | None]
    average_precision_of_classes: list[float | None]

    def to_dict(self) -> dict[str, Any]:
        """The scores as plain data, fit for JSON."""
        return asdict(self)


def ranking_scores(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> RankingScores:
    """Score ``probabilities (n, classes)`` against class indices ``labels (n,)``.

    Raises:
        UserError: the shapes do not match, labels are out of range, a row is no distribution, or all examples are of
            one class.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    probabilities = np.asarray(probabilities, np.float64)
    labels = np.asarray(labels)
    check_probabilities(probabilities, labels)
    if len(np.unique(labels)) < 2:
        raise UserError("All examples are of one class; examples of at least two are needed to rank them.")
    truth = labels[:, None] == np.arange(probabilities.shape[1])
    areas: list[float | None] = []
    precisions: list[float | None] = []
    for column, right in zip(probabilities.T, truth.T, strict=True):
        both = 0 < right.sum() < len(right)
        areas.append(float(roc_auc_score(right, column)) if both else None)
        precisions.append(float(average_precision_score(right, column)) if both else None)
    return RankingScores(
        micro_roc_auc=float(roc_auc_score(truth.ravel(), probabilities.ravel())),
        macro_roc_auc=_mean(areas),
        micro_average_precision=float(average_precision_score(truth.ravel(), probabilities.ravel())),
        macro_average_precision=_mean(precisions),
        roc_auc_of_classes=areas,
        average_precision_of_classes=precisions,
    )


def _mean(values: Sequence[float | None]) -> float:
    return float(np.mean([value for value in values if value is not None]))


def balanced_log_loss(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """``-1/C sum_c 1/N_c sum_{i of class c} log p_ic`` in nats, over the ``C`` classes that occur.

    Every class counts alike, however many examples it has. Source: the Photometric LSST Astronomical Time-series
    Classification Challenge, arXiv 1810.00001, with equal weights.

    Raises:
        UserError: as :func:`ranking_scores`.
    """
    probabilities = np.asarray(probabilities, np.float64)
    labels = np.asarray(labels)
    check_probabilities(probabilities, labels)
    own = np.log(np.clip(probabilities[np.arange(len(labels)), labels], 1e-15, None))
    return float(-np.mean([own[labels == label].mean() for label in np.unique(labels)]))
