"""Data that is soon memorised: the best weights are kept, and the winner is trained anew."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from safetensors import safe_open

from formwright.fitting import refits, restarts
from formwright.fitting.bench import Bench
from formwright.fitting.records import CurvePoint, Trial
from formwright.fitting.state import RunFolder
from formwright.models import from_pretrained
from formwright.search.space import space_for
from formwright.shapes import PictureShape
from formwright.training.evaluation import runner
from tests.fitting.test_race import bench_of, toy_session


@pytest.fixture
def session(tmp_path, monkeypatch):
    made = toy_session(RunFolder.create(tmp_path / "run", {}))
    monkeypatch.setattr(type(made.task.data), "keeps_best", True)
    return made


@pytest.fixture
def bench(session) -> Bench:
    return bench_of(session)


@pytest.fixture
def trial(session) -> Trial:
    proposal = space_for("image-classification", PictureShape((8, 8), 1, 3, 42)).propose("poolformer", width=8, depth=1)
    recipe = dataclasses.asdict(dataclasses.replace(proposal.recipe, batch_size=14))
    trial = Trial(0, "toy", "poolformer", dict(proposal.choices), proposal.specification.to_dict(), recipe)
    session.folder.state.trials.append(trial)
    return trial


def points(bench: Bench, trial: Trial, scores: list[float], every: int = 10) -> list[torch.nn.Module]:
    """Evaluations with these scores, each of other weights."""
    models = []
    for place, score in enumerate(scores, start=1):
        models.append(bench.build(trial, attempt=place))
        bench.add_point(trial, models[-1], CurvePoint(every * place, 0.1 * place, 1.0, score, 0.01))
    return models


def test_the_best_weights_are_kept(bench, session, trial):
    models = points(bench, trial, [0.4, 0.8, 0.6, 0.8, 0.5])
    assert (trial.kept, trial.score) == (1, 0.8)
    kept = bench.trained(trial).state_dict()
    assert all(torch.equal(kept[name], tensor) for name, tensor in models[1].state_dict().items())
    root = session.folder.root
    session.folder.release()
    again = RunFolder.open(root, {}).state.trials[0]
    assert (again.kept, again.score) == (1, 0.8)


def test_other_tasks_keep_the_latest(bench, session, trial, monkeypatch):
    monkeypatch.setattr(type(session.task.data), "keeps_best", False)
    points(bench, trial, [0.8, 0.6])
    assert (trial.kept, trial.score) == (None, 0.6)


def test_a_point_that_is_taken_back_is_not_kept(bench, session, trial):
    points(bench, trial, [0.4, 0.9])
    trial.curve = trial.curve[:1]
    bench.add_point(trial, bench.build(trial), CurvePoint(20, 0.2, 1.0, 0.5, 0.01))
    assert (trial.kept, trial.score) == (1, 0.5)


@pytest.mark.parametrize(
    ("scores", "past"),
    [([0.5, 0.9], False), ([0.9, 0.8], False), ([0.9, 0.8, 0.7], True), ([0.5, 0.9, 0.8, 0.7, 0.7], False)],
)
def test_training_ends_when_the_best_is_long_past(bench, session, trial, scores, past):
    # An epoch has three steps, so that patience is one and a half times what it took to the best.
    points(bench, trial, scores)
    assert bench.past_its_best(trial) is past


def test_the_race_stops_what_is_past_its_best(bench, session, trial):
    points(bench, trial, [0.9, 0.8, 0.7, 0.7])
    session.train_until(trial, 1000.0, end=session.clock.spent + 5.0)
    assert trial.seconds < 5.0
    assert trial.kept == 0 or trial.score > 0.9


def test_attempts_begin_anew_and_only_better_ones_are_kept(bench, session, trial, monkeypatch):
    points(bench, trial, [0.2, 0.9, 0.1])
    answers = iter([0.3, 0.5, 0.95, 0.4] + [0.1] * 100)
    scored: list[torch.nn.Module] = []

    def validate(self, model, recipe, *, most=None):
        scored.append(model)
        return next(answers)

    monkeypatch.setattr(Bench, "validate", validate)
    monkeypatch.setattr(restarts, "LENGTHS", (1.0, 0.5))
    restarts.begin_anew(bench, trial, bench.task.goal.objective(), 60.0, session.folder.state.facts.get("attempts"))
    assert trial.score == 0.95
    kept = bench.trained(trial).state_dict()
    assert all(torch.equal(kept[name], tensor) for name, tensor in scored[2].state_dict().items())
    steps = [point.step for point in trial.curve]
    assert steps == sorted(steps)
    assert steps[3:] == [30 + 12, 30 + 15, 30 + 17, 30 + 20, 50 + 6, 50 + 7, 50 + 8, 50 + 10]
    assert trial.curve[6].learning_rate < trial.curve[3].learning_rate
    assert session.folder.state.facts["attempts"]["done"] == 2
    # Continued after a kill, what is done is not done again.
    restarts.begin_anew(bench, trial, bench.task.goal.objective(), 60.0, session.folder.state.facts.get("attempts"))
    assert len(scored) == 8
    # A run that was given more time makes attempts of all lengths once more.
    more = {**session.folder.state.facts["attempts"], "rounds": 2}
    restarts.begin_anew(bench, trial, bench.task.goal.objective(), 60.0, more)
    assert len(scored) == 16
    assert session.folder.state.facts["attempts"]["done"] == 4


def test_an_attempt_that_was_killed_is_made_again(bench, session, trial, monkeypatch):
    points(bench, trial, [0.2, 0.9, 0.1])
    monkeypatch.setattr(restarts, "LENGTHS", (1.0,))

    class Killed(BaseException):
        pass

    real, calls = Bench.add_point, []

    def dies(self, *args):
        calls.append(args)
        if len(calls) == 3:
            raise Killed
        real(self, *args)

    monkeypatch.setattr(Bench, "add_point", dies)
    with pytest.raises(Killed):
        restarts.begin_anew(bench, trial, bench.task.goal.objective(), 60.0, session.folder.state.facts.get("attempts"))
    first = [point.step for point in trial.curve]
    monkeypatch.setattr(Bench, "add_point", real)
    restarts.begin_anew(bench, trial, bench.task.goal.objective(), 60.0, session.folder.state.facts.get("attempts"))
    assert first == [10, 20, 30, 42, 45]
    assert [point.step for point in trial.curve] == [10, 20, 30, 42, 45, 47, 50]
    assert session.task.goal.score(runner(bench.trained(trial)), "val") >= 0.0


def test_what_learns_again_sees_the_parts_it_is_given_and_leaves_the_kept_weights(bench, session, trial, monkeypatch):
    points(bench, trial, [0.5])
    asked: list[tuple[str, ...]] = []
    batches = type(session.task.data).training_batches

    def watched(self, batch_size, *, seed, parts=("train",)):
        asked.append(tuple(parts))
        return batches(self, batch_size, seed=seed, parts=parts)

    monkeypatch.setattr(type(session.task.data), "training_batches", watched)
    bench.trained(trial).save_pretrained(bench.paths.variant("trained"))
    kept = bench.trained(trial).state_dict()
    again = refits.Again(("train", "val"), "refitted")
    learned = refits._learned(bench, from_pretrained(bench.paths.variant("trained")), [trial], again, 20.0)
    assert asked[-1] == ("train", "val")
    assert any(not torch.equal(kept[name], tensor) for name, tensor in learned.state_dict().items())
    assert all(torch.equal(kept[name], tensor) for name, tensor in bench.trained(trial).state_dict().items())
    with safe_open(bench.paths.checkpoint("refitted"), framework="pt") as file:
        assert json.loads(file.metadata()["training"])["step"] <= 2 * refits.MOST_EPOCHS * 4


def test_a_refit_that_scores_worse_on_what_it_knows_is_not_used(bench, session, trial, monkeypatch):
    points(bench, trial, [0.5])
    bench.trained(trial).save_pretrained(bench.paths.variant("trained"))
    scores = iter([0.9, 0.2])
    monkeypatch.setattr(session.task.goal, "score", lambda *given, **options: next(scores))
    assert refits.refit(bench, "trained", [trial], refits.Again(("train", "val"), "refitted"), 20.0) is None
