"""Training with one plain recipe for all: a number of steps, or as many as a time allows, the same for everyone."""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch

from formwright.data.synthetic.sequences import LabelledSequences, SequenceBatches, evaluation_sequences
from formwright.errors import UserError
from formwright.measurement.budget import format_seconds
from formwright.models import create_model
from formwright.nn.specification import NetworkSpec
from formwright.objectives import Classification
from formwright.reporting import SILENT, Reporter
from formwright.studies.arena.tasks import Parts
from formwright.training import Progress, Recipe, Trainer
from formwright.training.evaluation import accuracy_of

BATCH = 16

_WARMUP = 20  # steps
_ROUND = 5  # steps that one takes before it is another's turn
_PLATEAU = 0.6  # of the time, after which the learning rate falls
_SCORING, _LEAST_TESTED = 0.3, 100  # most time for scores, and the fewest test rows that say anything
_CAUTION = 0.9  # of the time that is left, for what cannot be foreseen

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Trained:
    """Accuracy on the test rows, how many these were, the training steps, and the seconds that they took."""

    accuracy: float
    tested: int
    steps: int
    seconds: float


def _trainer(
    specification: NetworkSpec, data: Parts, seed: int, warmup: int, learning_rate: float, batch_size: int
) -> Trainer:
    recipe = Recipe(
        optimizer="adamw",
        learning_rate=learning_rate,
        vector_learning_rate=learning_rate,
        weight_decay=0.01,
        batch_size=batch_size,
        warmup=max(warmup, 1),
        ema_decay=0.98,
        label_smoothing=0.0,
    )
    torch.manual_seed(seed)
    batches = SequenceBatches(data.train, batch_size=batch_size, seed=seed)
    return Trainer(create_model(specification), Classification(), batches, recipe, seed=seed)


def _score(trainer: Trainer, test: LabelledSequences, batch_size: int) -> Trained:
    accuracy = accuracy_of(trainer.averaged_model(), evaluation_sequences(test, batch_size))
    return Trained(accuracy, len(test), trainer.step, trainer.seconds)


def train_and_score(
    specification: NetworkSpec,
    data: Parts,
    *,
    steps: int,
    seed: int = 0,
    learning_rate: float = 1e-3,
    batch_size: int = BATCH,
    reporter: Reporter = SILENT,
) -> Trained:
    """Train a model for a number of steps: AdamW, warm-up over a tenth of them and cosine, averaged weights.

    The seed decides the first weights and the order of the rows.
    """
    trainer = _trainer(specification, data, seed, steps // 10, learning_rate, batch_size)
    trainer.finish_at(steps)

    def tell(progress: Progress) -> None:
        reporter.progress(progress.step / steps, f"{specification.name}, loss {progress.loss:.2f}")

    trainer.train(steps=steps, on_step=tell)
    return _score(trainer, data.test, batch_size)


def train_together(
    contestants: Mapping[Key, tuple[NetworkSpec, Parts, int]],
    *,
    seconds: float,
    learning_rate: float = 1e-3,
    reporter: Reporter = SILENT,
) -> dict[Key, Trained]:
    """Train several models side by side in some seconds, scoring included, all for the same number of steps.

    They take turns, a few steps each, until three fifths of the time are over; what is left decides how many steps
    there are in which the learning rate falls to nothing.

    Args:
        contestants: specification, rows and seed of each.
        seconds: for all.
        learning_rate: the peak.
        reporter: is told how far it is.

    Raises:
        UserError: the time is too short for a round of a few steps each.
    """
    deadline = time.monotonic() + seconds
    trainers = {
        key: _trainer(specification, data, seed, _WARMUP, learning_rate, BATCH)
        for key, (specification, data, seed) in contestants.items()
    }

    def take(steps: int) -> float:
        """Everyone's next steps; the seconds that they took."""
        begun = time.monotonic()
        for key, trainer in trainers.items():
            trainer.train(steps=steps)
            done = 1 - max(deadline - time.monotonic(), 0) / seconds
            reporter.progress(done, f"{contestants[key][0].name}, step {trainer.step:,}, loss {trainer.loss:.2f}")
        return time.monotonic() - begun

    take(1)  # the first step allocates, and does not say how long others take
    rounds, taken = 1, take(_ROUND)
    # A step without its backward half takes a third of the time, and a test row costs what a training row does.
    row = taken / _ROUND / 3 / BATCH
    left = deadline - time.monotonic()
    most = max(len(data.test) for _, data, _ in contestants.values())
    tested = int(min(_SCORING * left / row, most))
    if tested < min(_LEAST_TESTED, most):
        needed = seconds - left + _LEAST_TESTED * row / _SCORING
        raise UserError(
            f"{format_seconds(max(seconds, 1.0))} are too little for a few steps of {len(contestants)} models and "
            f"{_LEAST_TESTED} test rows, which take about {format_seconds(needed)}; allow more, or name fewer tasks "
            "and mixers."
        )
    scoring = tested * row
    left -= scoring
    plateau = time.monotonic() + _PLATEAU * left
    while time.monotonic() + taken / rounds <= plateau:
        taken += take(_ROUND)
        rounds += 1
    step = taken / (rounds * _ROUND)
    last = max(int(_CAUTION * (deadline - time.monotonic() - scoring) / step), 1)
    for trainer in trainers.values():
        trainer.finish_at(trainer.step + last)
    for begun in range(0, last, _ROUND):
        take(min(_ROUND, last - begun))
    return {key: _score(trainer, contestants[key][1].test.first(tested), BATCH) for key, trainer in trainers.items()}
