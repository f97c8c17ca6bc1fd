"""The winner learns the validation part too, when it has chosen everything that it chooses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import nn

from formwright.files import write_safetensors
from formwright.fitting.bench import Bench
from formwright.fitting.records import Trial
from formwright.models.network import load_state, read_safetensors
from formwright.training.loop import Trainer
from formwright.training.recipe import Recipe

#: Of the time for training the winner, how much is kept for this; how often it sees everything at most.
REFIT_SHARE, MOST_EPOCHS = 0.3, 2.0
#: Of the learning rates of before: what was learned shall be kept.
RATE = 0.3
NOTE = (
    "At last the winner went on with the training and the validation part, for two epochs at most. Scores of "
    "candidates were taken before; those of exported forms only compare these, for only the test part is new to them."
)


def refit(bench: Bench, trial: Trial, seconds: float) -> None:
    """Go on from the weights of a trial, at a low rate that falls to nothing, with everything but the test part."""
    recipe = Recipe(**trial.recipe)
    recipe = replace(
        recipe,
        learning_rate=RATE * recipe.learning_rate,
        vector_learning_rate=RATE * recipe.vector_learning_rate,
        warmup=20,
    )
    batches, epoch = bench.task.data.refit_batches(recipe.batch_size, seed=bench.seed)
    trainer = Trainer(
        bench.trained(trial),
        bench.task.goal.objective(recipe),
        batches,
        recipe,
        seed=1000 * bench.seed + trial.number,
    )
    checkpoint = bench.paths.checkpoint("refit")
    if checkpoint.is_file():  # of a run that was killed here
        trainer.load(checkpoint)
    bench.finish(trainer, None, seconds, "refit", most=max(2, round(MOST_EPOCHS * epoch)))
    write_safetensors(_file(bench, trial), trainer.averaged_model().state_dict(), {})
    bench.note(NOTE)


def refitted(bench: Bench, trial: Trial) -> nn.Module:
    """The model of a trial with the weights that :func:`refit` left."""
    model = bench.build(trial)
    load_state(model, read_safetensors(_file(bench, trial)))
    return model.eval()


def _file(bench: Bench, trial: Trial) -> Path:
    return bench.paths.checkpoint(f"trial-{trial.number:02d}-refit")
