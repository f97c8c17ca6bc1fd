from __future__ import annotations

import math
import time
from typing import Any

import pytest
import torch
from torch import nn

from formwright.batch import Batch
from formwright.errors import NonFiniteLossError
from formwright.models import create_model
from formwright.objectives import Classification, Objective, Outcome
from formwright.training.loop import Trainer
from formwright.training.recipe import Recipe
from tests.training.toy import toy_recipe, toy_trainer


class Failing(Objective):
    """The loss of step ``at`` is not a number."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at, self.calls = at, 0

    def forward(self, model: nn.Module, batch, progress: float) -> Outcome:
        loss = model(batch.inputs).square().mean()
        self.calls += 1
        return Outcome(loss * math.nan if self.calls > self.at else loss)


def test_a_loss_that_is_not_finite_names_its_step_and_changes_nothing():
    trainer = toy_trainer(toy_recipe())
    trainer.objective = Failing(at=2)
    trainer.train(steps=2)
    before = {name: tensor.clone() for name, tensor in trainer.model.named_parameters()}
    with pytest.raises(NonFiniteLossError, match="loss became nan at step 2") as caught:
        trainer.train(steps=5)
    assert "lower the rate" in str(caught.value)
    assert trainer.step == 2
    assert all(torch.equal(tensor, before[name]) for name, tensor in trainer.model.named_parameters())


def test_an_absurd_learning_rate_is_reported_as_such():
    trainer = toy_trainer(toy_recipe("sgd", clip=None, warmup=1), seed=1)
    for optimizer in trainer._optimizers:
        for group in optimizer.param_groups:
            group["peak"] = 1e30
    with pytest.raises(NonFiniteLossError, match="at step"):
        trainer.train(steps=20)


def test_training_learns_and_keeps_its_loss():
    trainer = toy_trainer(toy_recipe())
    first = trainer.train(steps=5)
    assert trainer.loss == first
    trainer.train(steps=40)
    assert trainer.loss < 0.9 * first
    assert trainer.step == 45
    assert trainer.seconds > 0


def test_no_step_is_taken_when_the_time_is_over():
    trainer = toy_trainer(toy_recipe())
    trainer.train(steps=1)
    kept = trainer.loss
    assert math.isnan(trainer.train(until=time.monotonic() - 1))
    assert (trainer.step, trainer.loss) == (1, kept)


def test_training_stops_at_the_clock_and_at_its_steps():
    trainer = toy_trainer(toy_recipe())
    trainer.train(until=time.monotonic() + 0.3)
    assert trainer.step >= 1
    seen = []
    before = trainer.step
    trainer.train(steps=3, on_step=lambda progress: seen.append(progress.step))
    assert seen == [before + 1, before + 2, before + 3]


def test_the_learning_rate_follows_the_schedule_to_nothing():
    trainer = toy_trainer(toy_recipe(warmup=2))
    trainer.finish_at(8, decay_from=4)
    rates = []
    trainer.train(steps=8, on_step=lambda progress: rates.append(progress.learning_rate))
    peak = trainer.recipe.learning_rate
    assert rates[0] == pytest.approx(peak / 2)
    assert rates[1:5] == pytest.approx([peak] * 4)
    assert sorted(rates[4:], reverse=True) == rates[4:]
    assert 0 < rates[-1] < 0.2 * peak


def test_trained_weights_can_be_written_by_anybody(tmp_path):
    from safetensors.torch import load_file, save_file

    model = create_model("resnet18", dims=(8, 8, 8, 8), classes=3, image_size=32)
    batches: Any = iter([Batch(torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 0]))] * 2)
    trainer = Trainer(model, Classification(), batches, Recipe(batch_size=4))
    trainer.train(steps=2)
    averaged = trainer.averaged_model()
    save_file(averaged.state_dict(), tmp_path / "model.safetensors")
    written = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(tensor, written[name]) for name, tensor in averaged.state_dict().items())


def test_the_averaged_model_is_a_copy_for_evaluation():
    trainer = toy_trainer(toy_recipe())
    trainer.train(steps=3)
    averaged = trainer.averaged_model()
    assert not averaged.training
    name, tensor = next(iter(averaged.named_parameters()))
    assert torch.equal(tensor, trainer.average.state[name])
    assert not torch.equal(tensor, dict(trainer.model.named_parameters())[name])
    with torch.no_grad():
        tensor.zero_()
    assert not torch.equal(tensor, trainer.average.state[name])


def test_half_precision_rounds_what_is_computed_and_not_what_is_given():
    trainer = toy_trainer(toy_recipe(precision="bf16-mixed"))
    seen = []
    trainer.model.register_forward_pre_hook(
        lambda module, given: seen.append((given[0], torch.is_autocast_enabled("cpu")))
    )
    trainer.train(steps=1)
    assert [(x.dtype, autocast) for x, autocast in seen] == [(torch.float32, True)]
