from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from formwright.batch import Batch
from formwright.compression.values import KeptValues
from formwright.errors import UserError
from formwright.nn import part
from formwright.nn.auxiliary import collect, report_loss, report_statistic
from formwright.nn.channel_mixers.mixture_of_experts import MixtureOfExperts
from formwright.objectives import Classification, Objective, Outcome, Phase, WithAuxiliary, means
from formwright.training import Recipe, Trainer

EXPERTS, CLASSES, DIM = 4, 3, 8


class Sorted(nn.Module):
    """A classifier of single tokens by experts; all tokens want the first expert to begin with."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.experts = MixtureOfExperts(DIM, experts=EXPERTS, active=1, expert=part("mlp", hidden=8))
        self.head = nn.Linear(DIM, CLASSES)
        with torch.no_grad():
            self.experts.router.weight[0] += 0.5

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x + self.experts(x[:, None])[:, 0])


class Endless:
    def __init__(self, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.inputs = 1 + torch.randn(256, DIM, generator=generator)
        self.targets = self.inputs[:, :CLASSES].argmax(1)

    def __iter__(self):
        return self

    def __next__(self) -> Batch:
        return Batch(self.inputs, self.targets)

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def busiest_after_training(weight: float) -> tuple[float, float]:
    """The share of the busiest expert, and the loss of the classes, after a short training."""
    objective: Objective = WithAuxiliary(Classification(), {"balance": weight})
    recipe = Recipe(optimizer="adamw", learning_rate=1e-2, weight_decay=0.0, warmup=0, ema_decay=0.0)
    trainer = Trainer(Sorted(), objective, Endless(), recipe, seed=0)
    seen = []
    trainer.train(steps=150, on_step=seen.append)
    found = means(seen[-1].outcomes.values())
    return found["busiest_expert"], Classification()(trainer.model.eval(), next(Endless(1)), 1.0).loss.item()


def test_a_weighed_balance_spreads_the_tokens_over_the_experts_and_none_leaves_them_as_they_were():
    unbalanced, _ = busiest_after_training(0.0)
    balanced, loss = busiest_after_training(0.1)
    assert unbalanced > 0.7
    assert balanced < 1.4 / EXPERTS
    assert loss < 0.5, "and the classes are learned all the same"


def test_the_loss_is_the_weighted_sum_and_everything_reported_is_counted():
    model, batch = Sorted(), next(Endless())
    base = Classification(0.1)
    objective = WithAuxiliary(base, {"balance": 0.25})
    outcome = objective(model, batch, 0.0)
    plain = base(model, batch, 0.0)
    with collect(model) as auxiliary:
        model(batch.inputs)
    expected = plain.loss + 0.25 * auxiliary.loss("balance")
    torch.testing.assert_close(outcome.loss, expected)
    counted = means([outcome])
    assert counted.keys() == {"loss", "accuracy", "balance", "busiest_expert"}
    assert counted["loss"] == pytest.approx(expected.item(), rel=1e-6)
    assert counted["balance"] == pytest.approx(auxiliary.loss("balance").item(), rel=1e-6)
    assert counted["accuracy"] == pytest.approx(means([plain])["accuracy"])
    assert not any(value.requires_grad for value in outcome.sums.values())


def test_evaluation_drops_what_parts_report():
    model, batch = Sorted(), next(Endless())
    outcome = WithAuxiliary(Classification(), {"balance": 0.25}).eval()(model, batch, 0.0)
    assert outcome.sums.keys() == {"loss", "accuracy"}
    assert torch.equal(outcome.loss, Classification()(model, batch, 0.0).loss)


def test_a_loss_that_no_part_reports_and_a_weight_that_is_no_number_are_refused():
    with pytest.raises(UserError, match="a loss 'commitment'; the losses reported are: balance"):
        WithAuxiliary(Classification(), {"commitment": 1.0})(Sorted(), next(Endless()), 0.0)
    with pytest.raises(UserError, match="weight of the loss 'balance' is nan"):
        WithAuxiliary(Classification(), {"balance": float("nan")})


class Reports(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        report_loss(self, "first", self.weight.square())
        report_loss(self, "second", self.weight)
        report_statistic(self, "value", self.weight)
        return x * self.weight


class Two(Objective):
    """A phase that trains the model, and one that trains something else with the model's help."""

    def __init__(self) -> None:
        super().__init__()
        self.own = nn.Parameter(torch.tensor(1.0))
        self.steps = 0

    def forward(self, model: nn.Module, batch: Batch, progress: float) -> Outcome:
        return Outcome(model(batch.inputs).sum())

    def other(self, model: nn.Module, batch: Batch, progress: float) -> Outcome:
        return Outcome(model(batch.inputs).sum() * self.own)

    def phases(self, model: nn.Module) -> tuple[Phase, ...]:
        return (Phase(self, (model,), "model"), Phase(self.other, (self,), "own"))

    def after_step(self) -> None:
        self.steps += 1


def test_wrapped_twice_both_weights_count_in_the_phases_that_train_the_model():
    model, batch = Reports(), Batch(torch.ones(3), torch.zeros(3))
    base = Two()
    objective = WithAuxiliary(WithAuxiliary(base, {"first": 10.0}), {"second": 100.0})
    assert objective(model, batch, 0.0).loss.item() == 3 * 2 + 10 * 4 + 100 * 2
    training, own = objective.phases(model)
    assert (training.name, own.name) == ("model", "own")
    assert training.run(model, batch, 0.0).loss.item() == 3 * 2 + 10 * 4 + 100 * 2
    assert own.run(model, batch, 0.0).loss.item() == 3 * 2
    assert own.modules == (base,)
    KeptValues(objective, model).after_step()
    assert base.steps == 1
