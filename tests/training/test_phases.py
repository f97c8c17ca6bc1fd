"""Phases of a step: who is trained in each, and that a training with several continues where it stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from formwright.batch import Batch
from formwright.compression.values import KeptValues
from formwright.errors import NonFiniteLossError, UserError
from formwright.models import create_model
from formwright.models.choices import narrowed
from formwright.models.nesting import nested_choice
from formwright.objectives import Classification, Distillation, NestedTraining, Objective, Outcome, Phase, means
from formwright.training import Trainer
from formwright.training.evaluation import step_seconds
from tests.training.gan import BATCH, Adversarial, fit, gan_trainer, generator, moment_distance
from tests.training.toy import toy_recipe

ROOT = Path(__file__).parents[2]


def killed_process(folder: Path) -> int:
    paths = [str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-m", "tests.training.gan", str(folder)]
    return subprocess.run(command, cwd=ROOT, env=environment, timeout=300, check=False).returncode


def test_a_gan_learns_the_digits_and_continues_bit_equal_after_a_kill_within_an_epoch(tmp_path):
    assert killed_process(tmp_path) == -signal.SIGKILL
    straight = gan_trainer()
    untrained = moment_distance(generator())
    best = fit(straight)
    assert moment_distance(best) < 0.4 * untrained

    continued = gan_trainer()
    continued.load(tmp_path / "gan.safetensors")
    assert continued.step % len(continued.batches) > 0
    best_continued = fit(continued)
    assert continued.scores == straight.scores
    for kind, one, other in (
        ("generator", straight.model.state_dict(), continued.model.state_dict()),
        ("discriminator", straight.objective.state_dict(), continued.objective.state_dict()),
        ("average", straight.average.state, continued.average.state),
        ("best", best.state_dict(), best_continued.state_dict()),
    ):
        differing = [name for name in one if not torch.equal(one[name], other[name])]
        assert not differing, f"{kind} differs in {differing}"


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def changed(module: nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, parameter in module.named_parameters() if not torch.equal(parameter, before[name])}


def test_a_phase_trains_its_modules_and_no_other_gets_a_gradient():
    trainer = gan_trainer()
    adversarial = trainer.objective
    seen = []

    class Watched(Adversarial):
        def phases(self, model):
            judge, draw = Adversarial.phases(adversarial, model)
            return (Phase(self._watch(judge, model), judge.modules, "judge"), Phase(self._watch(draw, model), (model,)))

        def _watch(self, phase, model):
            def run(*arguments):
                modules = {"model": model, "discriminator": adversarial.discriminator}
                seen.append({name: state(module) for name, module in modules.items()})
                outcome = phase.run(*arguments)
                learning = {
                    name: any(parameter.requires_grad for parameter in module.parameters())
                    for name, module in modules.items()
                }
                seen.append(learning)
                return outcome

            return run

    trainer.objective = Watched()
    trainer.train(steps=1)
    before, judging, between, drawing = seen
    assert judging == {"model": False, "discriminator": True}
    assert drawing == {"model": True, "discriminator": False}
    same = {name: torch.equal(tensor, between["model"][name]) for name, tensor in before["model"].items()}
    assert all(same.values()), "the discriminator's turn leaves the generator alone"
    assert changed(adversarial.discriminator, before["discriminator"]) == set(before["discriminator"])
    assert not changed(adversarial.discriminator, between["discriminator"]), "and the generator's turn the other"
    # A bias before a batch norm has no gradient but rounding; every weight is stepped.
    assert changed(trainer.model, between["model"]) >= {name for name in between["model"] if "weight" in name}
    parameters = [*trainer.model.parameters(), *adversarial.parameters()]
    assert all(parameter.grad is None and parameter.requires_grad for parameter in parameters)


def test_progress_has_the_outcome_of_each_phase_and_the_sum_of_their_losses():
    trainer = gan_trainer()
    seen = []
    trainer.train(steps=2, on_step=seen.append)
    for progress in seen:
        assert list(progress.outcomes) == ["discriminator", "generator"]
        losses = [float(outcome.loss) for outcome in progress.outcomes.values()]
        assert progress.loss == pytest.approx(sum(losses))
        assert not any(outcome.loss.requires_grad for outcome in progress.outcomes.values())


class Sizes(Objective):
    """Every size of a nested model, in a phase of its own on the same weights."""

    def __init__(self, base: Objective, ratios: tuple[float, ...]) -> None:
        super().__init__()
        self.base, self.ratios = base, ratios

    def forward(self, model: nn.Module, batch: Batch, progress: float) -> Outcome:
        return self.base(model, batch, progress)

    def phases(self, model: nn.Module) -> tuple[Phase, ...]:
        def of(ratio: float) -> Phase:
            def run(model, batch, progress):
                with narrowed(model, nested_choice(model, ratio)):
                    return self.base(model, batch, progress)

            return Phase(run, (model,), f"{ratio:g}")

        return tuple(of(ratio) for ratio in self.ratios)


class SameBatch:
    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def __iter__(self):
        return self

    def __next__(self):
        return self.batch

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def test_the_sizes_of_a_supernet_are_phases_that_train_the_same_weights():
    torch.manual_seed(0)
    model = create_model("cct_2_3x2_32", dim=16, heads=2, depth=2, classes=3, image_size=16)
    batch = Batch(torch.randn(12, 3, 16, 16), torch.arange(12) % 3)
    trainer = Trainer(model, Sizes(Classification(), (0.25, 1.0)), SameBatch(batch), toy_recipe(warmup=0), seed=0)
    seen = []
    trainer.train(steps=60, on_step=seen.append)
    for size in ("0.25", "1"):
        losses = [means([progress.outcomes[size]])["loss"] for progress in seen]
        assert losses[-1] < 0.6 * losses[0]


def test_a_wrapper_of_one_phase_does_not_swallow_those_of_what_it_wraps():
    trainer = gan_trainer()
    trainer.objective = Distillation(generator(), Adversarial())
    with pytest.raises(UserError, match="Distillation trains in one phase and wraps Adversarial"):
        trainer.train(steps=1)
    assert len(NestedTraining(Classification()).phases(nn.Linear(2, 2))) == 1
    model = nn.Linear(2, 2)
    assert [phase.name for phase in KeptValues(Adversarial(), model).phases(model)] == ["discriminator", "generator"]


def test_a_phase_that_trains_nothing_is_refused():
    class Idle(Adversarial):
        def phases(self, model):
            return (Phase(self, (nn.Linear(2, 2),), "idle"),)

    trainer = gan_trainer()
    trainer.objective = Idle()
    with pytest.raises(UserError, match="'idle' of Idle trains no parameter"):
        trainer.train(steps=1)


def test_a_loss_that_is_not_finite_names_its_phase():
    class Broken(Adversarial):
        def forward(self, model, batch, progress):
            outcome = super().forward(model, batch, progress)
            return Outcome(outcome.loss * torch.nan)

    trainer = gan_trainer()
    trainer.objective.__class__ = Broken
    with pytest.raises(NonFiniteLossError, match="loss of 'generator' became nan at step 0"):
        trainer.train(steps=1)
    assert all(parameter.requires_grad for parameter in trainer.objective.parameters())


def test_timing_a_step_takes_all_phases_and_leaves_no_gradient():
    objective = Adversarial()
    calls = []
    objective.discriminator.register_forward_hook(lambda *_: calls.append(1))
    assert step_seconds(generator(), objective, Batch(torch.rand(BATCH, 64), torch.zeros(BATCH)), "32-true") > 0
    assert len(calls) == 3 * 3, "two rounds and one to warm up: real and drawn ones, and drawn ones for the generator"
    assert all(parameter.grad is None for parameter in objective.parameters())
