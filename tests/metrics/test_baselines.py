"""The trivial baselines: right shapes, sensible scores, time kept."""

from __future__ import annotations

import numpy as np
import pytest

from formwright.data import read_images
from formwright.metrics import baselines
from formwright.metrics.baselines import logistic_regression, majority_class


@pytest.fixture(scope="module")
def digits():
    data = read_images()
    parts = [(data.images[part], data.labels[part]) for part in (data.split.train, data.split.test)]
    return (*parts[0], *parts[1])


def test_the_majority_class_is_predicted_with_the_shares():
    baseline = majority_class(np.array([0, 2, 2, 2]), 5, 4)
    np.testing.assert_allclose(baseline.probabilities, np.tile([0.25, 0, 0.75, 0], (5, 1)))


def test_logistic_regression_reads_digits(digits):
    train_images, train_labels, test_images, test_labels = digits
    baseline = logistic_regression(train_images, train_labels, test_images, 10)
    assert (baseline.probabilities.argmax(1) == test_labels).mean() > 0.94
    np.testing.assert_allclose(baseline.probabilities.sum(1), 1, atol=1e-5)
    assert "1300 training pictures" in baseline.note
    assert "converged" in baseline.note


def test_a_spent_time_limit_still_gives_a_classifier(digits):
    train_images, train_labels, test_images, test_labels = digits
    baseline = logistic_regression(train_images, train_labels, test_images, 10, seconds=0.0)
    assert "10 iterations, stopped by its limit of 0 s" in baseline.note
    assert (baseline.probabilities.argmax(1) == test_labels).mean() > 0.8


def test_large_data_are_subsampled_by_the_seed(digits, monkeypatch):
    train_images, train_labels, test_images, _ = digits
    monkeypatch.setattr(baselines, "_MOST_VALUES", 64 * 200)
    first, again, other = (
        logistic_regression(train_images, train_labels, test_images, 10, seed=seed) for seed in (0, 0, 1)
    )
    assert "200 training pictures" in first.note
    np.testing.assert_array_equal(first.probabilities, again.probabilities)
    assert (first.probabilities != other.probabilities).any()


def test_large_pictures_are_averaged_down():
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (30, 70, 100, 3), dtype=np.uint8)
    small = baselines._shrink(images)
    assert small.shape == (30, 17, 25, 3)
    np.testing.assert_allclose(small[3, 2, 5], images[3, 8:12, 20:24].mean((0, 1)), rtol=1e-5)
    np.testing.assert_array_equal(baselines._shrink(images[:, :8, :8]), images[:, :8, :8])


def test_classes_that_the_subsample_lacks_get_no_probability():
    images = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 1), dtype=np.uint8)
    baseline = logistic_regression(images, np.arange(20) % 2 * 2, images, 4)
    assert baseline.probabilities.shape == (20, 4)
    assert (baseline.probabilities[:, [1, 3]] == 0).all()


def test_one_colour_pictures_are_no_obstacle():
    images = np.zeros((12, 4, 4, 1), np.uint8)
    baseline = logistic_regression(images, np.arange(12) % 3, images, 3)
    np.testing.assert_allclose(baseline.probabilities, 1 / 3, atol=1e-3)
