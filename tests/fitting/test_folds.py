"""Few samples are dealt into folds, and what was chosen by six of them by chance is not shipped."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from formwright.data.labelled_series import labelled_series
from formwright.data.samples import control_charts
from formwright.fitting.bench import Bench
from formwright.fitting.data.labelled_series import ClassifiedSeries
from formwright.fitting.folds import FOLDS, deal, score_by_folds
from formwright.fitting.goals.classification import ClassificationGoal
from formwright.fitting.metric import ACCURACY, BALANCED_ACCURACY
from formwright.fitting.records import CurvePoint, FoldScore, Trial, Variant
from formwright.fitting.shrink import choose, worth
from formwright.fitting.task import Task, task_type
from formwright.models.ridge import ridge, ridge_classifier


def test_classes_are_spread_over_folds_and_copies_stay_together():
    labels = np.repeat([0, 1, 2], (50, 30, 7))
    groups = np.arange(87)
    groups[:6] = 3  # copies
    fold_of = deal(labels, groups, seed=1)
    assert len(set(fold_of[:6])) == 1
    for label in range(3):
        counts = np.bincount(fold_of[labels == label][6 * (label == 0) :], minlength=FOLDS)
        assert counts.max() - counts.min() <= 2
    assert (deal(labels, groups, seed=2) != fold_of).any()


def trial(number, score, folds=None, fitted=False):
    point = CurvePoint(1, 1.0, None, score, 0.0)
    return Trial(number, f"#{number}", "f", {}, {}, {}, curve=[point], kept=0, folds=folds, fitted=fitted)


def variant(name, number, score, least, latency=1.0):
    return Variant(f"{name}, float32", number, "float32", "", latency, 0, 0, 1, 1, 1, score, least=least, form=name)


def test_six_of_six_are_no_proof():
    trials = [trial(0, 5 / 6, FoldScore(0.83, 30, 5), fitted=True), trial(1, 1.0)]
    variants = [variant("minirocket", 0, 5 / 6, 0.6), variant("trained", 1, 1.0, 0.758)]
    assert choose(variants, ACCURACY, trials).form == "minirocket"
    assert choose(variants, ACCURACY).form == "trained"  # nobody was scored on folds
    trials[0].folds.score = 0.7
    assert choose(variants, ACCURACY, trials).form == "trained"
    trials[0].folds.score, trials[1].folds = 0.8, FoldScore(0.9, 30, 5)
    assert choose(variants, ACCURACY, trials).form == "trained"
    rounded = dataclasses.replace(variants[1], score=0.8)  # what a file loses counts
    assert worth(rounded, trials) == pytest.approx(0.7)
    average = dataclasses.replace(variants[1], form="ensemble")
    assert worth(average, trials) == 0.758


class Shares(ClassificationGoal):
    def __init__(self, right, wrong, metric=ACCURACY):
        self.metric = metric
        self.outputs = np.eye(2, dtype=np.float32)[[0] * right + [1] * wrong]

    @property
    def data(self):
        from types import SimpleNamespace

        import torch

        from formwright.batch import Batch

        batch = Batch(torch.from_numpy(self.outputs), torch.zeros(len(self.outputs), dtype=torch.int64))
        return SimpleNamespace(evaluation_batches=lambda part: iter([batch]))

    weights = None


def test_what_a_score_is_worth_at_least():
    assert Shares(6, 0).least(lambda inputs: inputs.numpy(), "val") == pytest.approx(0.875 - np.sqrt(0.875 * 0.125 / 8))
    assert Shares(600, 0).least(lambda inputs: inputs.numpy(), "val") > 0.99
    balanced = Shares(1, 1, BALANCED_ACCURACY)
    assert balanced.scored(np.eye(2)[[0, 1, 0, 0]], np.array([0, 0, 0, 1])) == pytest.approx(1 / 3)


def charts(each):
    raw, labels, names = control_charts(each, seed=0)
    return ClassifiedSeries(labelled_series(raw, labels, names))


@pytest.mark.parametrize("family", ["spectrum", "patch-pooling"])
def test_a_candidate_is_scored_on_every_sample_once(tmp_path, family):
    data = charts(8)
    kind = task_type("series-classification")
    task = Task(kind, data, kind.goal(data), (family,))
    proposal = task.space.propose(family, **task.space.ladder(family)[0])
    one = Trial(
        0, "one", family, {}, proposal.specification.to_dict(), dataclasses.asdict(proposal.recipe),
        curve=[CurvePoint(6, 0.01, 1.0, 0.5, 1e-3)], kept=0, fitted=family == "spectrum",
    )  # fmt: skip
    bench = Bench(task, tmp_path, seed=0, threads=1)
    found = score_by_folds(bench, one, 60.0, None)
    assert (found.samples, found.folds, found.deals) == (data.samples_of["train"] + data.samples_of["val"], 5, 3)
    assert 0.2 < found.score <= 1.0
    assert score_by_folds(bench, one, 0.0, None) is None
    assert score_by_folds(bench, one, 60.0, None).score == found.score


def test_leaving_one_out_is_exact():
    random = np.random.default_rng(0)
    for shape in ((12, 30), (40, 5)):
        x, y = random.normal(size=shape), random.normal(size=(shape[0], 2))
        found = ridge(x, y, strengths=[3.0])
        rest = ridge(x[1:], y[1:], strengths=[3.0])
        np.testing.assert_allclose(found.held_out[0], x[0] @ rest.weight + rest.bias, atol=1e-9)
        centred, target = x - x.mean(0), y - y.mean(0)
        direct = np.linalg.solve(centred.T @ centred + 3.0 * np.eye(shape[1]), centred.T @ target)
        np.testing.assert_allclose(found.weight, direct, atol=1e-9)


def test_a_class_without_samples_is_never_said():
    x = np.random.default_rng(0).normal(size=(40, 3)) + 3 * np.eye(3)[np.arange(40) % 2 * 2]
    weight, bias = ridge_classifier(x, np.arange(40) % 2 * 2, 3)
    scores = x @ weight.T + bias
    assert (scores.argmax(1) == np.arange(40) % 2 * 2).mean() > 0.9
    assert (scores.argmax(1) != 1).all()
