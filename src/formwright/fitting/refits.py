"""What was chosen learns once more, with samples that it was chosen by, on a bench.

One rule for all tasks. A simple competitor is fitted again. A network that was trained anew for its best weights
(:mod:`formwright.fitting.restarts`) is trained anew, as many times through the data, if there is time for it; every
other one goes on from its weights, at a low rate that falls to nothing and twice through the data at most. Of an
ensemble, each member does so.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from formwright.data.epochs import EpochBatches
from formwright.fitting.bench import Bench
from formwright.fitting.fitted import fit_weights
from formwright.fitting.records import Trial
from formwright.models import Network, from_pretrained
from formwright.models.topologies.ensemble import Ensemble
from formwright.nn.specification import ChainSpec
from formwright.objectives import Objective
from formwright.training.evaluation import runner
from formwright.training.loop import Trainer
from formwright.training.recipe import Recipe

#: How often a network that goes on sees everything at most.
MOST_EPOCHS = 2.0
#: Of the learning rates of before: what was learned shall be kept.
RATE = 0.3


@dataclass(frozen=True)
class Again:
    """How something learns again.

    Attributes:
        parts: what it learns.
        label: of what becomes of it, which names its checkpoints.
        attempt: the fact ``attempts`` of the run, if there is one: how the kept weights of a trial came about.
        teacher: what the winner learned from besides, if it did.
    """

    parts: Sequence[str]
    label: str
    attempt: Mapping[str, Any] | None = None
    teacher: Trial | None = None


def refit(bench: Bench, form: str, trials: Sequence[Trial], again: Again, seconds: float) -> Network | None:
    """The exported model ``form`` after it learned again; none if there was no time, or it was no good.

    Args:
        trials: what the model comes from, or each member of an ensemble.
    """
    model = from_pretrained(bench.paths.variant(form))
    before = bench.task.goal.score(runner(model), "val")
    learned = _learned(bench, model, trials, again, seconds)
    # It knows the validation part by now: a worse score there is no bad luck.
    if learned is None or bench.task.goal.score(runner(learned), "val") < before - bench.task.metric.margin(before):
        return None
    return learned


def _learned(bench: Bench, model: Network, trials: Sequence[Trial], again: Again, seconds: float) -> Network | None:
    end = time.monotonic() + seconds
    if isinstance(model, Ensemble):
        for index, (member, trial) in enumerate(zip(model.members, trials, strict=True)):
            share = (end - time.monotonic()) / (len(trials) - index)
            assert isinstance(member, Network)
            learned = _learned(bench, member, [trial], replace(again, label=f"{again.label}-{index}"), share)
            if learned is not None:
                member.load_state_dict(learned.state_dict())
        return model.eval()
    (trial,) = trials
    if trial.fitted:
        return fit_weights(bench, trial, again.parts, max(seconds, 1.5 * trial.seconds))
    recipe = Recipe(**trial.recipe)
    attempt, whole = again.attempt, model.specification == ChainSpec.from_dict(trial.specification)
    result: nn.Module | None = None
    if whole and attempt is not None and attempt["trial"] == trial.number and "kept" in attempt:
        result = _anew(bench, trial, recipe, again, attempt["kept"], end)
    if result is None:
        result = _on(bench, model, trial, recipe, again, end)
    assert result is None or isinstance(result, Network)
    return result


def _objective(bench: Bench, trial: Trial, recipe: Recipe, again: Again) -> Objective:
    if again.teacher is None or bench.answers is not None:
        return bench.task.goal.objective(recipe)
    return bench.task.distilled(recipe, bench.trained(again.teacher))


def _anew(
    bench: Bench, trial: Trial, recipe: Recipe, again: Again, kept: Mapping[str, int], end: float
) -> nn.Module | None:
    """As the attempt that led to the kept weights, with more samples and as many more steps."""
    batches = bench.training_batches(recipe.batch_size, seed=bench.seed + kept["attempt"], parts=again.parts)
    return _repeated(bench, trial, recipe, _objective(bench, trial, recipe, again), batches, kept, end)


def trained_anew(
    bench: Bench, trial: Trial, batches: EpochBatches, attempts: Mapping[str, Any] | None, end: float
) -> Network | None:
    """A network that learns other samples as those of its kept weights were learned; none if time is too short.

    Args:
        attempts: the fact ``attempts`` of the run, if there is one.
    """
    recipe = Recipe(**trial.recipe)
    steps = trial.curve[-1 if trial.kept is None else trial.kept].step
    kept = {"attempt": 0, "total": 0, "steps": steps}  # of the race, at a rate that does not fall
    if attempts is not None and attempts["trial"] == trial.number and "kept" in attempts:
        kept = attempts["kept"]
    found = _repeated(bench, trial, recipe, bench.task.goal.objective(recipe), batches, kept, end)
    assert found is None or isinstance(found, Network)
    return found


def _repeated(
    bench: Bench,
    trial: Trial,
    recipe: Recipe,
    objective: Objective,
    batches: EpochBatches,
    kept: Mapping[str, int],
    end: float,
) -> nn.Module | None:
    """A network from its first weights, trained for as many epochs as the kept weights were."""
    longer = len(batches) / len(bench.training_batches(recipe.batch_size, seed=bench.seed))
    total, steps = round(longer * kept["total"]), round(longer * kept["steps"])
    if steps * trial.curve[-1].seconds / max(trial.curve[-1].step, 1) > end - time.monotonic():
        return None
    model = bench.build(trial, attempt=kept["attempt"])
    trainer = Trainer(model, objective, batches, recipe, seed=1000 * bench.seed + trial.number, device=bench.device)
    if total:
        trainer.finish_at(total, decay_from=recipe.warmup)
    while trainer.step < steps:
        before = trainer.step
        trainer.train(steps=min(steps - before, max(steps // 20, 1)), until=end)
        bench.progress(trainer.step / steps, trial.name)
        if trainer.step == before:
            return None
    return trainer.averaged_model()


def _on(bench: Bench, model: nn.Module, trial: Trial, recipe: Recipe, again: Again, end: float) -> nn.Module | None:
    """From the weights of ``model`` on; adapters, which are part of its layers by now, from their own."""
    if trial.proposal.get("adapters"):
        model = bench.trained(trial)
    recipe = replace(
        recipe,
        learning_rate=RATE * recipe.learning_rate,
        vector_learning_rate=RATE * recipe.vector_learning_rate,
        warmup=20,
    )
    batches = bench.training_batches(recipe.batch_size, seed=bench.seed, parts=again.parts)
    objective = _objective(bench, trial, recipe, again)
    trainer = Trainer(model, objective, batches, recipe, seed=1000 * bench.seed + trial.number, device=bench.device)
    checkpoint = bench.paths.checkpoint(again.label)
    if checkpoint.is_file():  # of a run that was killed here
        trainer.load(checkpoint)
    left = max(end - time.monotonic(), 1.0)
    bench.finish(trainer, None, left, again.label, most=max(2, round(MOST_EPOCHS * len(batches))))
    return trainer.averaged_model()
