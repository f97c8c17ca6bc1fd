"""Of the last training of a winner, the best weights are kept where the last ones are worse by more than chance."""

from __future__ import annotations

import pytest
import torch

from formwright.fitting.records import CurvePoint
from tests.fitting.test_race import bench_of, with_trials


def finished(tmp_path, monkeypatch, scores):
    """A bench and a trial after a training whose evaluations gave these scores, and the weights of each."""
    made = with_trials(tmp_path / "run", 1)
    bench, trial = bench_of(made), made.folder.state.trials[0]
    told, weights = [], {}

    def validate(model, recipe, *, most=None):
        place = (trainer.step - 2) // 3 - 1
        weights[place] = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        return scores[place]

    monkeypatch.setattr(bench, "validate", validate)
    monkeypatch.setattr(bench, "tell", lambda kind, values: told.append((kind, values)))
    trainer = bench.trainer(trial)
    trainer.train(steps=2)
    trainer.finish_at(trainer.step + 3 * len(scores))
    real = trainer.train

    def three_steps(*, steps=None, until=None, on_step=None):
        return real(steps=min(steps, 3), on_step=on_step)

    monkeypatch.setattr(trainer, "train", three_steps)
    monkeypatch.setattr(trainer, "stretch", lambda total: None)
    monkeypatch.setattr("formwright.fitting.bench.TUNE_EVERY", 1e9)
    bench.finish(trainer, trial, 1e6, "trial-00", evaluations=10**9)
    return bench, trial, weights, told


def evaluate_always(monkeypatch):
    """Lets every turn of the loop be one in which an evaluation is due."""
    from formwright.fitting import bench

    class Time:
        now = 0.0

        @classmethod
        def monotonic(cls):
            cls.now += 10.0
            return cls.now

    monkeypatch.setattr(bench, "time", Time)


@pytest.mark.parametrize(
    ("scores", "kept"),
    [
        ([0.2, 0.9, 0.3, 0.5], 1),
        ([0.2, 0.5, 0.3, 0.9], None),
        ([0.2, 0.9, 0.3, 0.899], None),
        ([0.9, 0.2, 0.1, 0.1], 0),
    ],
)
def test_the_best_weights_are_kept_if_they_are_better_by_more_than_chance(tmp_path, monkeypatch, scores, kept):
    evaluate_always(monkeypatch)
    bench, trial, weights, told = finished(tmp_path, monkeypatch, scores)
    assert [point.score for point in trial.curve] == scores
    assert trial.kept == kept
    assert trial.score == (scores[-1] if kept is None else scores[kept])
    expected = weights[len(scores) - 1 if kept is None else kept]
    for name, tensor in bench.trained(trial).state_dict().items():
        torch.testing.assert_close(tensor, expected[name])
    assert [values["kept"] for kind, values in told if kind == "curve"][-1] == kept
    assert not bench.past_its_best(trial)


def test_what_was_kept_is_given_up_when_the_training_goes_on(tmp_path):
    made = with_trials(tmp_path / "run", 1)
    bench, trial = bench_of(made), made.folder.state.trials[0]
    bench.train_until(trial, 0.05, deadline=1e18)
    trial.curve.insert(0, CurvePoint(0, 0.0, None, 1.0, 0.1))
    trial.kept = 0
    bench.train_until(trial, 0.1, deadline=1e18)
    assert trial.kept != 0
    assert trial.score < 1.0
