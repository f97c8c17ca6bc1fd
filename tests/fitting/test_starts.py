"""A candidate may start from what the data say: in races, in restarts, when continued, and in a whole run."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from formwright.candidates import CANDIDATES
from formwright.fitting import fit
from formwright.fitting.records import Trial
from formwright.fitting.state import RunFolder
from formwright.models import create_model
from formwright.models.pretrained import Pretrained
from formwright.nn.functional.whitening import patches, whitening
from formwright.search.space import space_for
from formwright.shapes import PictureShape
from tests.fitting.test_race import bench_of, toy_session

#: Before a fixture leaves other candidates only.
ENTRY = CANDIDATES["image-classification"]["airbench"]
STEM = "backbone.embed.conv.weight"


@pytest.fixture
def session(tmp_path):
    return toy_session(RunFolder.create(tmp_path / "run", {}))


@pytest.fixture
def trial(session) -> Trial:
    proposal = space_for("image-classification", PictureShape((8, 8), 1, 3, 42)).propose("airbench", width=8, depth=1)
    recipe = dataclasses.asdict(dataclasses.replace(proposal.recipe, batch_size=14))
    trial = Trial(0, "toy", "airbench", dict(proposal.choices), proposal.specification.to_dict(), recipe)
    session.folder.state.trials.append(trial)
    return trial


def test_each_attempt_starts_from_the_training_samples_and_from_weights_of_its_own(session, trial):
    bench = bench_of(session)
    inputs, _ = session.task.data.some(("train",), 5000)
    assert len(inputs) == session.task.data.samples_of["train"]
    kernels = whitening(patches(inputs, 2), eps=5e-4).float().view(4, 1, 2, 2)
    first, again, second = (bench.build(trial, attempt=attempt).state_dict() for attempt in (0, 0, 1))
    for state in (first, second):
        assert torch.equal(state[STEM], torch.cat((kernels, -kernels)))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.linear.weight"], second["head.linear.weight"])


def test_a_users_weights_are_not_started_over(session, trial, monkeypatch):
    bench = bench_of(session)
    own = create_model("airbench94", dims=(8, 16), pools=(1, 2), channels=1, image_size=8, classes=3)
    session.task.data.weights = [Pretrained(own.specification, own.state_dict())]
    trial.proposal = {"weights": 0, "frozen": False}
    assert torch.equal(bench.build(trial).state_dict()[STEM], own.state_dict()[STEM])


def test_a_continued_training_is_the_same_to_the_bit(session, trial):
    bench = bench_of(session)
    trainer = bench.trainer(trial)
    trainer.train(steps=3)
    bench.checkpoint(trainer, bench.paths.checkpoint("trial-00"))
    trainer.train(steps=4)
    bench.trainers.clear()
    continued = bench.trainer(trial)
    assert continued.step == 3
    continued.train(steps=4)
    for name, tensor in trainer.model.state_dict().items():
        assert torch.equal(tensor, continued.model.state_dict()[name]), name


def test_a_run_ships_one_that_started_from_the_data(tmp_path, short_runs, monkeypatch):
    monkeypatch.setitem(CANDIDATES, "image-classification", {"airbench": ENTRY})
    random = np.random.default_rng(0)
    labels = np.arange(240) % 2
    images = random.integers(0, 120, (240, 12, 12, 3))
    images[labels == 1, ::2] += 100  # stripes lie
    images[labels == 0, :, ::2] += 100  # or stand
    np.savez(tmp_path / "stripes.npz", images=images.astype(np.uint8), labels=labels)
    result = fit(tmp_path / "stripes.npz", max_time="15s", out=tmp_path / "run")
    trials = [trial for trial in result.trials if trial.family == "airbench"]
    assert trials
    assert max(trial.score for trial in trials) > 0.9
    assert result.test["accuracy"] > 0.9
