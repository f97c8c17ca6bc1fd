"""Rankings and balanced losses against figures worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from formwright.errors import UserError
from formwright.metrics.ranking import balanced_log_loss, ranking_scores

PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1]])
LABELS = np.array([0, 0, 1, 1])


def test_areas_are_shares_of_pairs_in_the_right_order() -> None:
    scores = ranking_scores(PROBABILITIES, LABELS)
    # Class 0: of the pairs (0.7, 0.6), (0.7, 0.2), (0.5, 0.6), (0.5, 0.2), three are in order; class 1: 0.3 ties 0.3.
    assert scores.roc_auc_of_classes == [0.75, pytest.approx(0.875), None]
    assert scores.macro_roc_auc == pytest.approx((0.75 + 0.875) / 2)
    assert scores.average_precision_of_classes[0] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    right = np.array([0.7, 0.5, 0.3, 0.7])
    wrong = np.array([0.2, 0.1, 0.3, 0.2, 0.6, 0.1, 0.2, 0.1])
    pairs = [(r > w) + 0.5 * (r == w) for r in right for w in wrong]
    assert scores.micro_roc_auc == pytest.approx(np.mean(pairs))


def test_perfect_answers_have_areas_of_one() -> None:
    scores = ranking_scores(np.eye(3)[[0, 1, 2, 1]], np.array([0, 1, 2, 1]))
    assert scores.micro_roc_auc == scores.macro_roc_auc == scores.micro_average_precision == 1.0
    assert set(scores.to_dict()) >= {"micro_roc_auc", "average_precision_of_classes"}


def test_every_class_counts_alike_in_the_balanced_loss() -> None:
    probabilities = np.array([[0.5, 0.5], [0.5, 0.5], [0.5, 0.5], [0.8, 0.2]])
    labels = np.array([0, 0, 0, 1])
    assert balanced_log_loss(probabilities, labels) == pytest.approx(-(np.log(0.5) + np.log(0.2)) / 2)
    assert balanced_log_loss(np.repeat(probabilities, [1, 1, 1, 5], axis=0), np.repeat(labels, [1, 1, 1, 5])) == (
        pytest.approx(balanced_log_loss(probabilities, labels))
    )


def test_one_class_alone_cannot_be_ranked() -> None:
    with pytest.raises(UserError, match="one class"):
        ranking_scores(PROBABILITIES, np.zeros(4, np.int64))
    with pytest.raises(UserError, match="distributions"):
        ranking_scores(2 * PROBABILITIES, LABELS)
