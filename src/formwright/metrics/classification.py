"""Scores of classifiers, from the probabilities they give."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formwright.errors import UserError

_CALIBRATION_BINS = 15


@dataclass(frozen=True)
class ClassificationScores:
    """Scores on ``count`` examples; shares and errors are in 0..1, ``log_loss`` in nats.

    ``accuracy_interval`` is Wilson's 95 % interval. ``balanced_accuracy`` is the mean recall of the classes that occur,
    ``macro_f1`` the mean F1 of those that occur or are predicted. ``top_5_accuracy`` is None for six classes or fewer.
    ``calibration_error`` is the expected calibration error. ``confusion[i][j]`` counts examples of class i that were
    taken for class j.
    """

    count: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    balanced_accuracy: float
    macro_f1: float
    log_loss: float
    top_5_accuracy: float | None
    calibration_error: float
    confusion: list[list[int]]

    def to_dict(self) -> dict[str, Any]:
        """The scores as plain data, fit for JSON."""
        return asdict(self)


def classification_scores(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> ClassificationScores:
    """Score ``probabilities (n, classes)`` against class indices ``labels (n,)``; for logits see :func:`softmax`.

    Raises:
        UserError: the shapes do not match, there are no examples, labels are out of range, or a row is no distribution.
    """
    from sklearn.metrics import confusion_matrix, f1_score, log_loss, recall_score, top_k_accuracy_score

    probabilities = np.asarray(probabilities, np.float64)
    labels = np.asarray(labels)
    check_probabilities(probabilities, labels)
    count, classes = probabilities.shape
    every_class = np.arange(classes)
    predicted = probabilities.argmax(axis=1)
    top_5 = top_k_accuracy_score(labels, probabilities, k=5, labels=every_class) if classes > 6 else None
    normalised = probabilities / probabilities.sum(axis=1, keepdims=True)
    return ClassificationScores(
        count=count,
        accuracy=float((predicted == labels).mean()),
        accuracy_interval=wilson_interval(int((predicted == labels).sum()), count),
        balanced_accuracy=float(
            recall_score(labels, predicted, labels=np.unique(labels), average="macro", zero_division=0)
        ),
        macro_f1=float(f1_score(labels, predicted, average="macro", zero_division=0)),
        log_loss=float(log_loss(labels, normalised, labels=every_class)),
        top_5_accuracy=None if top_5 is None else float(top_5),
        calibration_error=calibration_error(probabilities, labels),
        confusion=confusion_matrix(labels, predicted, labels=every_class).tolist(),
    )


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Probabilities ``exp(z_i) / sum_j exp(z_j)`` over the last axis, in float64."""
    logits = np.asarray(logits, np.float64)
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def calibration_error(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], bins: int = _CALIBRATION_BINS
) -> float:
    """Expected calibration error, ``sum_b n_b / n |accuracy_b - confidence_b|`` over equally wide bins of confidence.

    Confidence is the largest probability of a row.
    Source: On Calibration of Modern Neural Networks, arXiv 1706.04599.
    """
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    number = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(number, weights=correct - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def wilson_interval(successes: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share ``p`` of ``count`` independent trials.

    ``(p + z^2 / 2n ± z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)`` with z = 1.96.
    """
    share, z = successes / count, 1.959963984540054
    centre = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    scale = 1 + z * z / count
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def check_probabilities(probabilities: NDArray[np.floating], labels: NDArray[Any]) -> None:
    """Refuse what is not a distribution over classes for every label.

    Raises:
        UserError: the shapes do not match, there are no examples, labels are out of range, or a row is no distribution.
    """
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1] or not len(labels):
        raise UserError(
            f"Probabilities of shape {probabilities.shape} came with labels of shape {labels.shape}; (n, classes) and "
            "(n,) with at least one example are expected."
        )
    if labels.min() < 0 or labels.max() >= probabilities.shape[1]:
        raise UserError(
            f"Labels from {labels.min()} to {labels.max()} came with {probabilities.shape[1]} classes; class indices "
            "from 0 are expected."
        )
    sums = probabilities.sum(axis=1)
    if not (np.abs(sums - 1) < 1e-3).all() or (probabilities < 0).any():  # also true of NaN
        raise UserError("Rows that are not distributions came as probabilities; use softmax on logits first.")
