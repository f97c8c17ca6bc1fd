"""What may be chosen of a run: its metric and its families."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from formwright.batch import Batch
from formwright.data.images import from_arrays
from formwright.errors import UserError
from formwright.fitting import fit
from formwright.fitting.data.pictures import Pictures
from formwright.fitting.goals.classification import ClassificationGoal
from formwright.fitting.kind import Reading
from formwright.fitting.metric import ACCURACY, BALANCED_ACCURACY
from formwright.fitting.task import Task, task_type
from formwright.objectives import Classification
from formwright.training import loop
from tests.fitting.test_race import bench_of, with_trials


@pytest.fixture(scope="module")
def rare():
    """Ninety pictures of one class and thirty of another."""
    random = np.random.default_rng(0)
    return Pictures(from_arrays(random.integers(0, 256, (120, 6, 6), dtype=np.uint8), np.arange(120) % 4 == 0))


def always(answer):
    return lambda inputs: np.eye(2, dtype=np.float32)[np.full(len(inputs), answer)]


def test_each_class_counts_alike_in_balanced_accuracy(rare):
    plain, balanced = ClassificationGoal(rare), ClassificationGoal(rare, metric="balanced-accuracy")
    assert (plain.metric, balanced.metric) == (ACCURACY, BALANCED_ACCURACY)
    for answer in (0, 1):
        assert balanced.score(always(answer), "test") == 0.5
    assert plain.score(always(0), "test") == pytest.approx(0.75, abs=0.05)
    assert balanced.baselines(seconds=1, seed=0)[0].score == 0.5
    assert plain.weights is None
    np.testing.assert_allclose(balanced.weights, [120 / 180, 2.0])
    outputs, targets = np.eye(2, dtype=np.float32)[[0, 1, 0, 0]], np.array([0, 1, 0, 1])
    assert balanced.counted(outputs, targets) == (pytest.approx(2 * 120 / 180 + 2), 4.0)


def test_learning_counts_each_class_alike_too(rare):
    objective = ClassificationGoal(rare, metric="balanced_accuracy").objective()
    assert isinstance(objective, Classification)
    model = nn.Identity()
    scores = torch.tensor([[2.0, 0.0], [2.0, 0.0]])
    loss = objective(model, Batch(scores, torch.tensor([0, 1])), 0.0).loss
    expected = nn.functional.cross_entropy(scores, torch.tensor([0, 1]), weight=torch.tensor([120 / 180, 2.0]))
    torch.testing.assert_close(loss, expected)
    shares = torch.tensor([[0.7, 0.3], [0.2, 0.8]])
    weighted = objective(model, Batch(scores, shares), 0.0).loss
    assert weighted != Classification()(model, Batch(scores, shares), 0.0).loss
    assert objective.state_dict() == {}


def test_an_unknown_metric_is_refused_with_those_that_there_are(rare):
    with pytest.raises(UserError, match=r"one of accuracy and balanced-accuracy .*, got 'f1'"):
        ClassificationGoal(rare, metric="f1")


def test_a_result_is_shown_by_the_metric_that_it_was_made_by():
    kind = task_type("image-classification")
    assert kind.metric_of(BALANCED_ACCURACY.to_json()) is BALANCED_ACCURACY
    assert kind.metric_of(ACCURACY.to_json()) is kind.metric_of({}) is ACCURACY
    assert task_type("forecasting").metric_of({"key": "mse"}) is task_type("forecasting").metric


def test_families_that_are_named_alone_are_tried(rare):
    kind, goal = task_type("image-classification"), ClassificationGoal(rare)
    assert set(Task(kind, rare, goal, ["resnet", "poolformer"]).space.families) == {"resnet", "poolformer"}
    assert len(Task(kind, rare, goal).space.families) > 5
    with pytest.raises(UserError, match=r"alexnet is no family for image-classification; name some of .*resnet"):
        _ = Task(kind, rare, goal, ["alexnet"]).space
    read = kind.read(None, Reading(families=("resnet",), options={"metric": "balanced-accuracy"}))
    assert (read.families, read.metric) == (("resnet",), BALANCED_ACCURACY)


@pytest.mark.parametrize("device", ["gpu", "cuda", "mps"])
def test_a_device_that_is_not_there_is_refused_before_anything_is_read(tmp_path, device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match=rf"no device '{device}' here; choose one of auto, cpu \(--device\)"):
        fit(tmp_path / "nothing", out=tmp_path / "run", task="image-classification", device=device)


def test_candidates_learn_on_the_device_that_was_named(tmp_path, monkeypatch):
    bench, made = bench_of(with_trials(tmp_path / "run", 1)), []
    monkeypatch.setattr(bench, "device", "cpu")
    real = loop.Trainer.__init__

    def learns(self, *arguments, **options):
        made.append(options["device"])
        real(self, *arguments, **options)

    monkeypatch.setattr(loop.Trainer, "__init__", learns)
    trainer = bench.trainer(with_trials(tmp_path / "same", 1).folder.state.trials[0])
    assert made == ["cpu"]
    assert trainer.fabric.device.type == "cpu"
    assert all(tensor.device.type == "cpu" for tensor in trainer.averaged_model().state_dict().values())
