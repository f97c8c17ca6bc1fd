"""The race on a few digits: candidates that fail, runs that are continued, budgets that nothing meets."""

from __future__ import annotations

import dataclasses
import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from formwright.batch import Batch
from formwright.data.augmentation import Augmentation
from formwright.data.images import from_arrays
from formwright.errors import UserError
from formwright.fitting import fit, race
from formwright.fitting.bench import Bench
from formwright.fitting.clock import Clock
from formwright.fitting.data.pictures import Pictures
from formwright.fitting.goals.classification import ClassificationGoal
from formwright.fitting.records import Trial
from formwright.fitting.session import Session
from formwright.fitting.state import RunFolder
from formwright.fitting.task import Task, task_type
from formwright.fitting.work import perform
from formwright.measurement.budget import Budget
from formwright.objectives import Classification, Outcome
from formwright.reporting import SILENT
from formwright.search.executors import InProcess
from formwright.search.space import space_for
from formwright.shapes import PictureShape


def toy_session(folder: RunFolder) -> Session:
    """A run on a few digits in this process; see :func:`bench_of`."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    images = (rng.integers(0, 100, (60, 8, 8)) + 50 * labels[:, None, None]).astype(np.uint8)
    data = Pictures(from_arrays(images, labels), Augmentation())
    bench = Bench(
        Task(task_type("image-classification"), data, ClassificationGoal(data)), folder.root, seed=0, threads=1
    )
    made = Session(
        task=bench.task,
        budget=Budget(time=60.0),
        folder=folder,
        clock=Clock(60.0, spent=folder.state.spent),
        reporter=SILENT,
        executor=InProcess(partial(perform, bench)),
        seed=0,
        threads=1,
    )
    bench.tell = made.hear
    return made


def bench_of(session: Session) -> Bench:
    """Where its candidates are trained."""
    return session.executor._perform.args[0]


def with_trials(root, count: int = 3) -> Session:
    made = toy_session(RunFolder.create(root, {}))
    shape = PictureShape((8, 8), 1, 3, 42)
    for number in range(count):
        proposal = space_for("image-classification", shape).propose("poolformer", width=8, depth=1)
        recipe = dataclasses.asdict(dataclasses.replace(proposal.recipe, batch_size=16))
        specification = proposal.specification.to_dict()
        made.folder.state.trials.append(
            Trial(number, f"toy {number}", proposal.family, dict(proposal.choices), specification, recipe)
        )
    # Rungs of a tenth of a second: what is tested is who goes on, not how well.
    made.folder.state.facts["rungs"] = [
        {"entrants": count, "seconds": 0.1, "survivors": 2},
        {"entrants": 2, "seconds": 0.2, "survivors": 1},
    ]
    made.save()
    return made


@pytest.fixture
def failing(monkeypatch):
    """Names the trials whose loss is not a number from the step ``at`` on."""
    trials: dict[int, int] = {}
    real_trainer = Bench.trainer

    def trainer(self, trial, objective=None):
        made = real_trainer(self, trial, objective)
        made.objective = Breaking(trials.get(trial.number))
        return made

    class Breaking(Classification):
        def __init__(self, at: int | None) -> None:
            super().__init__()
            self.at, self.calls = at, 0

        def forward(self, model: nn.Module, batch: Batch, progress: float) -> Outcome:
            outcome = super().forward(model, batch, progress)
            self.calls += 1
            broken = self.at is not None and self.calls > self.at
            return Outcome(outcome.loss * math.nan, outcome.sums, outcome.counts) if broken else outcome

    monkeypatch.setattr(Bench, "trainer", trainer)
    return trials


def test_one_survivor_a_rung_and_everything_is_written_down(tmp_path):
    made = with_trials(tmp_path / "run")
    race.race(made, 30.0)
    made.folder.release()
    state = RunFolder.open(tmp_path / "run", {}).state
    assert state.rungs_done == 2
    assert sorted(trial.status for trial in state.trials) == ["racing", "stopped", "stopped"]
    assert all(trial.curve for trial in state.trials)
    winner = next(trial for trial in state.trials if trial.number == state.winner)
    assert winner.status == "racing"
    finalists = [trial for trial in state.trials if not trial.reason.startswith("round 1")]
    assert len(finalists) == 2
    assert winner.score == max(trial.score for trial in finalists)


def test_a_trial_that_fails_does_not_stop_the_run(tmp_path, failing):
    failing[0] = 0
    made = with_trials(tmp_path / "run")
    race.race(made, 30.0)
    state = made.folder.state
    assert state.trials[0].status == "failed"
    assert "loss became nan at step 0" in state.trials[0].reason
    assert state.winner in (1, 2)


def test_a_winner_that_fails_is_replaced_by_the_next_best(tmp_path, failing):
    made = with_trials(tmp_path / "run")
    race.race(made, 30.0)
    first = made.folder.state.winner
    bench_of(made).trainers.clear()
    failing[first] = 0
    race.finish_winner(made, 0.5)
    state = made.folder.state
    assert state.winner != first
    assert {trial.number: trial.status for trial in state.trials}[first] == "failed"
    assert race.winner(made).status == "finished"
    assert "train" in state.finished
    assert any("won the race and then failed" in note for note in state.notes)
    assert isinstance(bench_of(made).trained(race.winner(made)), nn.Module)


def test_when_every_trial_fails_the_reason_is_said(tmp_path, failing):
    failing.update({0: 0, 1: 0, 2: 0})
    made = with_trials(tmp_path / "run")
    with pytest.raises(UserError, match="Every candidate failed to train; the first one: The loss became nan"):
        race.race(made, 30.0)


def test_a_continued_race_goes_on_where_it_was(tmp_path):
    made = with_trials(tmp_path / "run")
    trial = made.folder.state.trials[0]
    made.train_until(trial, 0.1, end=1e9)
    steps = trial.curve[-1].step
    made.folder.release()
    continued = toy_session(RunFolder.open(tmp_path / "run", {}))
    race.race(continued, 30.0)
    assert continued.folder.state.trials[0].curve[0].step == steps
    assert continued.folder.state.trials[0].curve[0] == trial.curve[0]


def test_what_is_scored_is_a_copy_at_a_falling_rate(tmp_path):
    made = with_trials(tmp_path / "run", 1)
    trial = made.folder.state.trials[0]
    made.train_until(trial, 1.0, end=1e9)
    bench, (point,) = bench_of(made), trial.curve
    trainer = bench.trainers[0]
    assert point.step > trainer.step
    assert point.seconds > trainer.seconds
    assert trainer.schedule.total is None, "what is in training goes on at its rate"
    kept = bench.trained(trial)
    assert bench.validate(kept, trainer.recipe) == pytest.approx(point.score)
    assert any(not torch.equal(a, b) for a, b in zip(kept.parameters(), trainer.model.parameters(), strict=True))
    bench.finish(trainer, trial, 1.0, "trial-00")
    assert trial.kept is None, "weights of before do not stand for what was trained to the end"
    assert bench.validate(bench.trained(trial), trainer.recipe) == pytest.approx(trial.score)


def test_a_checkpoint_without_its_score_is_scored_and_not_trained_again(tmp_path):
    made = with_trials(tmp_path / "run")
    trial = made.folder.state.trials[0]
    bench = bench_of(made)
    trainer = bench.trainer(trial)
    trainer.train(steps=5)
    trainer.seconds = 0.15
    bench.checkpoint(trainer, bench.paths.checkpoint("trial-00"))
    made.folder.release()
    continued = toy_session(RunFolder.open(tmp_path / "run", {}))
    again = continued.folder.state.trials[0]
    continued.train_until(again, 0.1, end=1e9)
    assert [(point.step, point.loss) for point in again.curve] == [(5, trainer.loss)]
    for name, tensor in trainer.model.state_dict().items():
        assert torch.equal(tensor, bench_of(continued).trainers[0].model.state_dict()[name])


def test_long_trainings_are_saved_on_the_way(tmp_path, monkeypatch):
    made = with_trials(tmp_path / "run")
    bench_of(made).checkpoint_every = 0.05
    saves = []

    def checkpoint(self, trainer, path):
        saves.append(trainer.step)
        trainer.save(path)

    monkeypatch.setattr(Bench, "checkpoint", checkpoint)
    made.train_until(made.folder.state.trials[0], 0.4, end=1e9)
    assert len(saves) >= 2, "one at the end, and at least one before"
    assert saves == sorted(saves)


@pytest.mark.parametrize(
    ("budget", "reached"), [({"max_macs": 50}, r"MACs: raise the budget"), ({"max_size": 300}, r"in INT8: raise")]
)
def test_an_impossible_budget_names_the_nearest_model_and_leaves_nothing(tmp_path, short_runs, budget, reached):
    with pytest.raises(UserError, match=reached) as caught:
        fit(out=tmp_path / "new" / "run", max_time=60, threads=1, **budget)
    sentence = str(caught.value)
    assert sentence.startswith("No candidate can meet the budget (")
    assert "the nearest is " in sentence
    assert any(family in sentence for family in ("cct", "poolformer"))
    assert list(tmp_path.iterdir()) == []


def test_wrong_values_are_refused_before_anything_is_read(tmp_path):
    for options, words in (
        ({"threads": 0}, "at least one processor thread"),
        ({"seed": -1}, "whole number from 0"),
        ({"seed": 2**31}, "whole number from 0"),
        ({"max_time": 5}, "at least 45 seconds"),
        ({"task": "poetry"}, "There is no task named 'poetry'"),
    ):
        with pytest.raises(UserError, match=words):
            fit("nowhere", out=tmp_path / "run", **options)
    assert list(tmp_path.iterdir()) == []
