"""Training by epochs: the best weights are kept, and it stops when validation does not get better."""

from __future__ import annotations

import json
import math

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from formwright.batch import Batch
from formwright.errors import UserError
from formwright.objectives import Classification, Objective, Outcome
from formwright.training import Recipe, Trainer
from tests.training.toy import toy_recipe, toy_trainer

EPOCH = 4  # batches of 16 of the training pictures


class Told:
    """An evaluation whose scores are known beforehand; it keeps the weights it was shown."""

    def __init__(self, *scores: float) -> None:
        self.scores = list(scores)
        self.shown: list[dict[str, torch.Tensor]] = []

    def __call__(self, model: nn.Module) -> float:
        assert not model.training
        torch.rand(3)  # what an evaluation draws changes nothing
        self.shown.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return self.scores[len(self.shown) - 1]


def trainer_of_epochs() -> Trainer:
    trainer = toy_trainer(toy_recipe())
    assert len(trainer.batches) == EPOCH
    return trainer


def assert_equal_states(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_weights_of_the_best_epoch_are_kept():
    trainer, told = trainer_of_epochs(), Told(0.1, 0.5, 0.3, 0.5)
    best = trainer.fit(epochs=4, evaluate=told)
    assert trainer.step == 4 * EPOCH
    assert trainer.scores == [(1, 0.1), (2, 0.5), (3, 0.3), (4, 0.5)]
    assert not best.training
    assert_equal_states(best.state_dict(), told.shown[1])
    assert not torch.equal(best.norm.running_mean, trainer.average.state["norm.running_mean"])


@pytest.mark.parametrize(
    ("scores", "patience", "epochs"),
    [((1, 2, 3, 4, 5), 1, 5), ((3, 2, 1, 0, 0), 1, 2), ((3, 2, 1, 0, 0), 3, 4), ((1, 3, 2, 4, 4), 2, 5)],
)
def test_it_stops_when_no_epoch_was_better_for_as_many_as_its_patience(scores, patience, epochs):
    trainer = trainer_of_epochs()
    trainer.fit(epochs=5, evaluate=Told(*scores), patience=patience)
    assert len(trainer.scores) == epochs
    assert trainer.step == epochs * EPOCH


def test_a_score_that_is_no_number_is_worse_than_any():
    trainer, told = trainer_of_epochs(), Told(math.nan, -5.0, math.nan)
    assert_equal_states(trainer.fit(epochs=3, evaluate=told).state_dict(), told.shown[1])


@pytest.mark.parametrize("saved_at", [1, EPOCH, EPOCH + 2, 3 * EPOCH])
def test_a_run_that_was_saved_at_any_step_goes_on_to_the_same_result(tmp_path, saved_at):
    def score(model):
        return float(-model.body.head.linear.weight.detach().square().sum())

    straight = trainer_of_epochs()
    best = straight.fit(epochs=4, evaluate=score, patience=2)

    stopped = trainer_of_epochs()

    class Killed(BaseException):
        pass

    def watch(progress):
        if progress.step == saved_at:
            stopped.save(tmp_path / "fit.safetensors")
            raise Killed

    with pytest.raises(Killed):
        stopped.fit(epochs=4, evaluate=score, patience=2, on_step=watch)
    continued = trainer_of_epochs()
    continued.load(tmp_path / "fit.safetensors")
    assert_equal_states(continued.fit(epochs=4, evaluate=score, patience=2).state_dict(), best.state_dict())
    assert continued.scores == straight.scores
    assert_equal_states(continued.model.state_dict(), straight.model.state_dict())


def test_more_epochs_go_on_where_fewer_ended():
    at_once, twice = trainer_of_epochs(), trainer_of_epochs()
    at_once.fit(epochs=3, evaluate=Told(1, 2, 3))
    twice.fit(epochs=2, evaluate=Told(1, 2))
    told = Told(3)
    twice.fit(epochs=3, evaluate=told)
    assert len(told.shown) == 1
    assert twice.scores == at_once.scores
    assert_equal_states(twice.model.state_dict(), at_once.model.state_dict())


def test_without_averaging_the_weights_themselves_are_evaluated():
    trainer = toy_trainer(toy_recipe(ema_decay=0.0))
    trainer.train(steps=4)
    assert_equal_states(trainer.average.state, dict(trainer.model.state_dict()))


def test_what_has_no_epochs_is_refused():
    trainer = trainer_of_epochs()
    with pytest.raises(UserError, match="got 0 and None"):
        trainer.fit(epochs=0, evaluate=Told())
    with pytest.raises(UserError, match="got 2 and 0"):
        trainer.fit(epochs=2, evaluate=Told(), patience=0)
    trainer.batches = iter([])
    with pytest.raises(UserError, match="has no length, so it has no epochs"):
        trainer.fit(epochs=2, evaluate=Told())


class Codebook(nn.Module):
    """Codes that follow what was given to them, as quantisers have them: buffers that only training changes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.register_buffer("codes", torch.zeros(4))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("used", torch.zeros(4, dtype=torch.bool))
        self.register_buffer("scale", torch.full((4,), 0.5), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layer(x) - self.codes
        if self.training:
            with torch.no_grad():
                self.codes.lerp_(y.mean(0), 0.1)
                self.calls += 1
                self.used |= y.mean(0) > 0
        return y * self.scale


class Queue(Objective):
    """What was seen lately is pushed away: an objective with a buffer that each step changes."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("queue", torch.zeros(6, 4))

    def forward(self, model: nn.Module, batch: Batch, progress: float) -> Outcome:
        y = model(batch.inputs)
        self.latest = y.detach().mean(0)
        return Outcome((y @ self.queue.clone().T).square().mean() + (y - 1).square().mean())

    def after_step(self) -> None:
        self.queue.copy_(torch.cat([self.queue[1:], self.latest[None]]))


class Noise:
    """Endless batches that depend on their step alone."""

    def __init__(self) -> None:
        self.step = 0

    def __iter__(self):
        return self

    def __next__(self) -> Batch:
        self.step += 1
        return Batch(torch.randn(8, 4, generator=torch.Generator().manual_seed(self.step)), torch.zeros(8))

    def state_dict(self):
        return {"step": self.step}

    def load_state_dict(self, state):
        self.step = state["step"]


def codebook_trainer() -> Trainer:
    torch.manual_seed(0)
    return Trainer(Codebook(), Queue(), Noise(), Recipe(optimizer="adamw", warmup=0, ema_decay=0.9), seed=0)


def test_buffers_that_training_changes_are_saved_and_resumed(tmp_path):
    straight, stopped, continued = codebook_trainer(), codebook_trainer(), codebook_trainer()
    straight.train(steps=9)
    stopped.train(steps=4)
    stopped.save(tmp_path / "codes.safetensors")
    continued.load(tmp_path / "codes.safetensors")
    assert continued.model.calls == 4
    assert continued.objective.queue[-4:].abs().sum() > 0
    continued.train(steps=5)
    assert_equal_states(continued.model.state_dict(), straight.model.state_dict())
    assert_equal_states(continued.objective.state_dict(), straight.objective.state_dict())
    assert_equal_states(continued.average.state, straight.average.state)


def test_the_averaged_model_has_averaged_codes_and_the_latest_counters():
    trainer = codebook_trainer()
    trainer.train(steps=9)
    averaged = trainer.averaged_model()
    assert averaged.calls == 9
    assert torch.equal(averaged.used, trainer.model.used)
    assert torch.equal(averaged.scale, trainer.model.scale)
    assert not torch.equal(averaged.codes, trainer.model.codes)
    assert torch.equal(averaged.codes, trainer.average.state["codes"])


def test_the_checkpoint_of_another_objective_is_refused(tmp_path):
    trainer = codebook_trainer()
    trainer.save(tmp_path / "codes.safetensors")
    other = Trainer(Codebook(), Classification(), Noise(), trainer.recipe, seed=0)
    with pytest.raises(UserError, match="another model or another objective"):
        other.load(tmp_path / "codes.safetensors")


def test_a_checkpoint_from_before_recipes_had_groups_is_continued(tmp_path):
    path = tmp_path / "old.safetensors"
    trainer = toy_trainer(toy_recipe())
    trainer.train(steps=2)
    trainer.save(path)
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["training"])
    for name in ("groups", "betas"):
        del header["recipe"][name]
    del header["scores"], header["schedule"]["halve_every"]
    save_file(load_file(path), path, {"training": json.dumps(header)})
    continued = toy_trainer(toy_recipe())
    continued.load(path)
    assert (continued.step, continued.scores) == (2, [])
    header["recipe"]["momentum_of_later_versions"] = 0.5
    save_file(load_file(path), path, {"training": json.dumps(header)})
    with pytest.raises(UserError, match="another recipe"):
        continued.load(path)
