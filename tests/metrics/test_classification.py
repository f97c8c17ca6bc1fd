"""Scores against values worked out by hand, and against other implementations."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.stats import binomtest

from formwright.errors import UserError
from formwright.metrics.classification import (
    calibration_error,
    classification_scores,
    softmax,
    wilson_interval,
)

PROBABILITIES = np.array([[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.2, 0.5, 0.3], [0.1, 0.2, 0.7]])
LABELS = np.array([0, 0, 1, 2])


def test_scores_by_hand():
    scores = classification_scores(PROBABILITIES, LABELS)
    assert scores.count == 4
    assert scores.accuracy == 0.75
    assert scores.confusion == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert scores.balanced_accuracy == pytest.approx((0.5 + 1 + 1) / 3)
    assert scores.macro_f1 == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert scores.log_loss == pytest.approx(-np.log([0.8, 0.3, 0.5, 0.7]).mean())
    assert scores.top_5_accuracy is None
    assert scores.calibration_error == pytest.approx((0.2 + 0.6 + 0.5 + 0.3) / 4)
    low, high = scores.accuracy_interval
    assert low < 0.75 < high
    assert json.loads(json.dumps(scores.to_dict()))["accuracy"] == 0.75


def test_top_5_counts_the_five_largest():
    random = np.random.default_rng(0)
    probabilities = softmax(random.normal(size=(300, 12)))
    labels = random.integers(0, 12, 300)
    ranks = (probabilities > probabilities[np.arange(300), labels][:, None]).sum(1)
    assert classification_scores(probabilities, labels).top_5_accuracy == pytest.approx((ranks < 5).mean())


def test_classes_that_do_not_occur_do_no_harm(recwarn):
    scores = classification_scores(np.eye(4)[[0, 1, 1]] * 0.97 + 0.0075, np.array([0, 1, 1]))
    assert scores.balanced_accuracy == 1.0
    assert scores.macro_f1 == 1.0
    assert len(scores.confusion) == 4
    assert not recwarn.list


def test_certainty_that_is_wrong_gives_a_finite_loss():
    scores = classification_scores(np.eye(2)[[0, 1]], np.array([1, 1]))
    assert math.isfinite(scores.log_loss)
    assert scores.calibration_error == 0.5


def test_float32_probabilities_are_taken():
    probabilities = softmax(np.random.default_rng(0).normal(size=(50, 10))).astype(np.float32)
    assert classification_scores(probabilities, np.arange(50) % 10).count == 50


def test_softmax_bears_large_logits():
    np.testing.assert_allclose(softmax(np.array([[1000.0, 1000.0], [0.0, -1e9]])), [[0.5, 0.5], [1.0, 0.0]])


@pytest.mark.parametrize("bins", [1, 5, 15])
def test_calibration_error_equals_the_plain_loop(bins):
    random = np.random.default_rng(bins)
    probabilities = softmax(2 * random.normal(size=(200, 4)))
    labels = random.integers(0, 4, 200)
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == labels
    expected = 0.0
    for number in range(bins):
        inside = (confidence > number / bins) & (confidence <= (number + 1) / bins)
        if inside.any():
            expected += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    assert calibration_error(probabilities, labels, bins) == pytest.approx(expected)


def test_a_confidence_on_the_edge_of_two_bins_belongs_to_the_lower():
    probabilities, labels = np.array([[0.5, 0.5], [0.9, 0.1]]), np.array([0, 1])
    assert calibration_error(probabilities, labels, 2) == pytest.approx((0.5 + 0.9) / 2)


@pytest.mark.parametrize(("successes", "count"), [(0, 1), (1, 1), (0, 30), (30, 30), (7, 10), (8123, 10000)])
def test_the_interval_is_wilsons(successes, count):
    expected = binomtest(successes, count).proportion_ci(0.95, method="wilson")
    assert wilson_interval(successes, count) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        (PROBABILITIES, LABELS[:3], "labels of shape"),
        (PROBABILITIES[0], LABELS[:1], "labels of shape"),
        (PROBABILITIES[:0], LABELS[:0], "at least one example"),
        (PROBABILITIES, LABELS + 1, "Labels from 1 to 3"),
        (PROBABILITIES, LABELS - 1, "Labels from -1"),
        (np.log(PROBABILITIES), LABELS, "use softmax"),
        (PROBABILITIES * np.nan, LABELS, "use softmax"),
    ],
)
def test_what_cannot_be_scored_is_refused(probabilities, labels, message):
    with pytest.raises(UserError, match=message):
        classification_scores(probabilities, labels)
