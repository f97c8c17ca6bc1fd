"""For data that is soon memorised: the winner is trained anew, as long as pays, and the best weights are kept."""

from __future__ import annotations

import time
from typing import Any

from formwright.fitting.bench import Bench
from formwright.fitting.records import CurvePoint, Trial
from formwright.objectives import Objective
from formwright.training.recipe import Recipe

#: Lengths of the attempts, in units of how long the race took to the kept score; the rate falls to nothing in each.
LENGTHS = (1.5, 3.0, 0.75, 1.5, 3.0)
#: Evaluations in the second half of an attempt.
EVALUATIONS = 4


def begin_anew(
    bench: Bench, trial: Trial, objective: Objective, seconds: float, known: dict[str, Any] | None = None
) -> None:
    """Train a trial that went past its best from its first weights again, with a falling rate.

    The race trains with a constant rate until scores get worse. Here each attempt ends where its rate is nothing, some
    sooner and some later than the race's best; weights are kept when they score better than all before.

    Args:
        known: the fact ``attempts`` that an earlier call told of: which attempts are over, and in how many rounds of
            all lengths they are made, one more for each time that the run was given more time.
    """
    recipe = Recipe(**trial.recipe)
    assert trial.kept is not None
    if known is None:
        known = {
            "trial": trial.number,
            "done": 0,
            "unit": trial.curve[trial.kept].step,
            "step": trial.curve[-1].step,
            "seconds": trial.curve[-1].seconds,
        }
        bench.tell("facts", {"attempts": known})
    end = time.monotonic() + seconds
    lengths = LENGTHS * known.get("rounds", 1)
    for attempt, length in enumerate(lengths, start=1):
        if attempt <= known["done"]:
            continue
        started = time.monotonic()
        total = max(8, round(length * known["unit"]))
        trainer = bench.new_trainer(
            bench.build(trial, attempt=attempt), recipe, trial.number, objective, attempt=attempt
        )
        trainer.finish_at(total, decay_from=recipe.warmup)
        trial.curve = [point for point in trial.curve if point.step <= known["step"]]
        bench.progress((attempt - 1) / len(lengths), f"attempt {attempt} of {len(lengths)}")
        for stop in range(1, EVALUATIONS + 1):
            target = total * (EVALUATIONS + stop) // (2 * EVALUATIONS)
            loss = trainer.train(steps=target - trainer.step, until=end)
            if trainer.step < target:
                return  # no time for more
            model = trainer.averaged_model()
            point = CurvePoint(
                known["step"] + trainer.step,
                known["seconds"] + trainer.seconds,
                loss,
                bench.validate(model, recipe, most=bench.task.data.race_samples),
                recipe.learning_rate * trainer.schedule.factor(trainer.step),
            )
            bench.add_point(trial, model, point)
            if trial.kept == len(trial.curve) - 1:
                known["kept"] = {"attempt": attempt, "total": total, "steps": target}
                bench.tell("facts", {"attempts": known})
        known |= {
            "done": attempt,
            "step": known["step"] + trainer.step,
            "seconds": known["seconds"] + trainer.seconds,
        }
        bench.tell("facts", {"attempts": known})
        if end - time.monotonic() < time.monotonic() - started:
            return
