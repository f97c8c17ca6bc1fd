from __future__ import annotations

import numpy as np
import torch
from torch import nn

from formwright.batch import Batch
from formwright.objectives import Classification
from formwright.training.evaluation import PRECISIONS, accuracy_of, faster_precision, predict_scores, step_seconds


class Last(nn.Module):
    """Scores are the inputs themselves; batch norms and dropout tell in which mode it ran."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.modes: list[bool] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.modes.append(self.training)
        return x * self.scale


def batches():
    yield Batch(torch.eye(3), torch.tensor([0, 1, 2]))
    yield Batch(torch.eye(3)[:2], torch.tensor([0, 2]))


def test_scores_of_all_batches_in_order_and_in_evaluation_mode():
    model = Last().train()
    scores, targets = predict_scores(model, batches())
    np.testing.assert_array_equal(scores, np.concatenate([np.eye(3), np.eye(3)[:2]]))
    assert targets.tolist() == [0, 1, 2, 0, 2]
    assert model.modes == [False, False]
    assert accuracy_of(model, batches()) == 0.8


def test_timing_a_step_leaves_the_model_as_it_was():
    model = nn.Linear(4, 3)
    before = model.weight.detach().clone()
    batch = Batch(torch.randn(8, 4), torch.randint(3, (8,)))
    assert step_seconds(model, Classification(), batch, "bf16-mixed") > 0
    assert faster_precision(model, Classification(), batch, repeats=1) in PRECISIONS
    assert torch.equal(model.weight, before)
    assert model.weight.grad is None
