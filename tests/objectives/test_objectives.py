"""Objectives against the formulas they state."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.models import Model, create_model
from formwright.objectives import Batch, Classification, Distillation, Objective, Outcome, means


class Scores(nn.Module):
    """A model that answers with its one parameter, whatever it is asked."""

    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.scores = nn.Parameter(scores)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.scores[: inputs.shape[0]]


SCORES = torch.tensor([[2.0, 0.0, -1.0], [0.5, 1.5, 0.0]])
TEACHER = torch.tensor([[0.0, 1.0, 0.0], [3.0, -1.0, 1.0]])
INPUTS = torch.zeros(2, 1)


def probabilities(scores: Tensor, temperature: float = 1.0) -> list[list[float]]:
    rows = [[math.exp(score / temperature) for score in row] for row in scores.tolist()]
    return [[value / sum(row) for value in row] for row in rows]


def test_classification_is_cross_entropy_and_counts_right_answers() -> None:
    outcome = Classification()(Scores(SCORES), Batch(INPUTS, torch.tensor([0, 0])), 0.0)
    expected = [-math.log(row[0]) for row in probabilities(SCORES)]
    assert outcome.loss.item() == pytest.approx(sum(expected) / 2, rel=1e-6)
    assert outcome.sums["loss"].item() == pytest.approx(sum(expected), rel=1e-6)
    assert not outcome.sums["loss"].requires_grad
    assert (outcome.sums["accuracy"].item(), outcome.counts["accuracy"]) == (1, 2)


def test_smoothing_moves_a_share_of_the_target_to_all_classes() -> None:
    outcome = Classification(label_smoothing=0.3)(Scores(SCORES), Batch(INPUTS, torch.tensor([0, 2])), 0.0)
    expected = 0.0
    for row, right in zip(probabilities(SCORES), (0, 2), strict=True):
        expected -= sum((0.7 * (k == right) + 0.1) * math.log(p) for k, p in enumerate(row)) / 2
    assert outcome.loss.item() == pytest.approx(expected, rel=1e-6)


def test_shares_of_classes_are_targets_too() -> None:
    hard = Classification(0.1)(Scores(SCORES), Batch(INPUTS, torch.tensor([0, 2])), 0.0)
    soft = Classification(0.1)(Scores(SCORES), Batch(INPUTS, torch.eye(3)[[0, 2]]), 0.0)
    assert soft.loss.item() == pytest.approx(hard.loss.item())
    assert soft.sums["accuracy"] == hard.sums["accuracy"] == 1
    mixed = Classification()(Scores(SCORES), Batch(INPUTS, torch.tensor([[0.6, 0.4, 0.0]] * 2)), 0.0)
    expected = -sum(0.6 * math.log(row[0]) + 0.4 * math.log(row[1]) for row in probabilities(SCORES)) / 2
    assert mixed.loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("targets", [torch.zeros(3, dtype=torch.long), torch.zeros(2), torch.zeros(2, 4)])
def test_targets_that_do_not_fit_are_refused(targets: Tensor) -> None:
    with pytest.raises(UserError, match=r"2 samples and 3 classes.*got"):
        Classification()(Scores(SCORES), Batch(INPUTS, targets), 0.0)


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(UserError, match=r"between 0 and 1, got 1\.5"):
        Classification(1.5)
    with pytest.raises(UserError, match="positive, got 0"):
        Distillation(Scores(TEACHER), Classification(), temperature=0)
    with pytest.raises(UserError, match="between 0 and 1, got -1"):
        Distillation(Scores(TEACHER), Classification(), weight=-1)


def test_means_weigh_batches_by_their_size() -> None:
    first = Outcome(torch.tensor(0.0), {"loss": torch.tensor(6.0)}, {"loss": 3})
    last = Outcome(torch.tensor(0.0), {"loss": torch.tensor(2.0)}, {"loss": 1})
    assert means([first, last]) == {"loss": 2.0}


def test_distillation_is_the_weighted_sum_of_both_terms() -> None:
    batch = Batch(INPUTS, torch.tensor([0, 1]))
    objective = Distillation(Scores(TEACHER), Classification(), temperature=3.0, weight=0.25)
    outcome = objective(Scores(SCORES), batch, 0.0)
    divergence = 0.0
    for taught, learned in zip(probabilities(TEACHER, 3.0), probabilities(SCORES, 3.0), strict=True):
        divergence += 9 * sum(p * math.log(p / q) for p, q in zip(taught, learned, strict=True)) / 2
    base = Classification()(Scores(SCORES), batch, 0.0)
    assert outcome.loss.item() == pytest.approx(0.75 * base.loss.item() + 0.25 * divergence, rel=1e-5)
    assert outcome.sums["distillation"].item() == pytest.approx(2 * divergence, rel=1e-5)
    assert outcome.sums["accuracy"] == base.sums["accuracy"]


def test_the_teacher_is_neither_trained_nor_saved_and_stays_in_eval_mode() -> None:
    teacher, student = Scores(TEACHER), Scores(SCORES)
    objective = Distillation(teacher, Classification()).train()
    objective(student, Batch(INPUTS, torch.tensor([0, 1])), 0.0).loss.backward()
    assert student.scores.grad is not None
    assert teacher.scores.grad is None
    assert not teacher.training
    assert not list(objective.parameters())
    assert not objective.state_dict()
    objective.double()
    assert teacher.scores.dtype == torch.float64


def test_a_teacher_of_other_classes_is_refused() -> None:
    objective = Distillation(Scores(torch.zeros(2, 5)), Classification())
    with pytest.raises(UserError, match=r"\(2, 5\).*\(2, 3\)"):
        objective(Scores(SCORES), Batch(INPUTS, torch.tensor([0, 1])), 0.0)


def test_the_teacher_sees_what_the_base_objective_showed_the_student() -> None:
    class Shifted(Objective):
        def forward(self, model: nn.Module, batch: Batch, progress: float) -> Outcome:
            return Outcome(model(batch.inputs + 1).sum())

    seen = []

    class Teacher(Scores):
        def forward(self, inputs: Tensor) -> Tensor:
            seen.append(inputs)
            return super().forward(inputs)

    Distillation(Teacher(TEACHER), Shifted())(Scores(SCORES), Batch(INPUTS, torch.tensor([0, 1])), 0.0)
    assert torch.equal(seen[0], INPUTS + 1)


def test_after_step_reaches_the_wrapped_objective() -> None:
    class Counting(Classification):
        steps = 0

        def after_step(self) -> None:
            self.steps += 1

    base = Counting()
    Distillation(Scores(TEACHER), base).after_step()
    assert base.steps == 1


def small_distilled() -> Model:
    torch.manual_seed(0)
    return create_model("deit_tiny_distilled_patch16_224", dim=16, depth=1, heads=2, classes=3, image_size=32)


def test_a_distillation_head_follows_the_teacher_and_the_class_head_the_targets() -> None:
    student = small_distilled().train()
    batch = Batch(torch.randn(2, 3, 32, 32), torch.tensor([0, 1]))
    Distillation(Scores(TEACHER), Classification(), weight=1.0)(student, batch, 0.0).loss.backward()
    head = student.head
    assert isinstance(head.linear, nn.Linear)
    assert isinstance(head.distilled, nn.Linear)
    assert head.linear.weight.grad is None or not head.linear.weight.grad.any()
    assert head.distilled.weight.grad is not None
    assert head.distilled.weight.grad.any()
