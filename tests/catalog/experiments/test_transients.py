"""The transients that claims are about: scaled by the training part, and the same again."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from formwright.catalog.experiments import transients as module
from formwright.metrics.classification import classification_scores
from formwright.models import create_model


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> module.GriddedTransients:
    monkeypatch.setattr(module, "TRAIN_CURVES", 42)
    monkeypatch.setattr(module, "TEST_CURVES", 14)
    return module.transients.__wrapped__()


def test_training_and_test_part_are_apart_and_scaled_by_the_first(few: module.GriddedTransients) -> None:
    assert few.train.shape == (42, 100, 6)
    assert few.test.shape == (14, 100, 6)
    low, high = np.percentile(np.sinh(few.train.reshape(-1, 6)), [25, 75], axis=0)
    np.testing.assert_allclose(high - low, 1.0, rtol=1e-6)
    with_features, _ = few.series(features=True)
    assert with_features.shape == (42, 100, 8)
    assert np.array_equal(with_features[:, 7, 6:], few.train_features)


def test_a_model_is_trained_and_judged_and_so_is_the_peer(few: module.GriddedTransients) -> None:
    torch.manual_seed(0)
    model = create_model("t2_plasticc", dim=16, heads=2, classes=7)
    averaged = module.train_on(model, few.train, few.train_labels, steps=3)
    assert averaged is not model
    for likely in (
        module.probabilities(averaged, few.test),
        module.logistic_regression(few.train, few.train_labels, few.test),
    ):
        assert classification_scores(likely, few.test_labels).count == 14
