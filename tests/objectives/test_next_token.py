"""Cross entropy of next tokens: what counts, and what a teacher adds."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from formwright.batch import Batch
from formwright.errors import UserError
from formwright.objectives import Distillation
from formwright.objectives.language import NextToken


class Table(nn.Module):
    """Scores of the next id by the present one."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.scores = nn.Embedding(6, 6, _weight=torch.randn(6, 6, generator=torch.Generator().manual_seed(seed)))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.scores(ids)


BATCH = Batch(torch.tensor([[0, 1, 2], [3, 4, 5]]), torch.tensor([[1, 2, -1], [4, -1, -1]]))


def test_the_mean_over_targets_that_count():
    model = Table(0)
    nats = -model(BATCH.inputs).log_softmax(-1)
    expected = (nats[0, 0, 1] + nats[0, 1, 2] + nats[1, 0, 4]) / 3
    outcome = NextToken()(model, BATCH, 0.0)
    torch.testing.assert_close(outcome.loss, expected)
    assert outcome.counts == {"loss": 3}
    torch.testing.assert_close(outcome.sums["loss"], 3 * expected.detach())


def test_a_model_of_another_shape_is_refused():
    with pytest.raises(UserError, match=r"targets of shape \(2, 3\) are expected; got \(2, 2\)"):
        NextToken()(Table(0), Batch(BATCH.inputs, BATCH.targets[:, :2]), 0.0)


def test_a_teacher_counts_each_token_alike():
    student, teacher = Table(0), Table(1)
    whole = Distillation(teacher, NextToken(), weight=1.0, temperature=1.0)(student, BATCH, 0.0).loss
    log_student, log_teacher = (model(BATCH.inputs).log_softmax(-1) for model in (student, teacher))
    divergence = (log_teacher.exp() * (log_teacher - log_student)).sum(-1)
    torch.testing.assert_close(whole, divergence.mean())
    same = Distillation(student, NextToken(), weight=1.0)(student, BATCH, 0.0).loss
    assert math.isclose(float(same), 0.0, abs_tol=1e-6)
