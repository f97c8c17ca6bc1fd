"""A training that is killed and continued ends where it would have ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from formwright.errors import UserError
from tests.training.toy import COMBINATIONS, toy_recipe, toy_trainer

ROOT = Path(__file__).parents[2]


def killed_process(folder: Path) -> int:
    paths = [str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.run(
        [sys.executable, "-m", "tests.training.toy", str(folder)], cwd=ROOT, env=environment, timeout=300, check=False
    ).returncode


def test_a_killed_training_ends_with_bit_equal_weights(tmp_path):
    assert killed_process(tmp_path) == -signal.SIGKILL
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{n}.safetensors" for n in range(len(COMBINATIONS))]
    for number, (optimizer, precision) in enumerate(COMBINATIONS):
        straight = toy_trainer(toy_recipe(optimizer, precision))
        straight.finish_at(12)
        straight.train(steps=12)
        continued = toy_trainer(toy_recipe(optimizer, precision), seed=0)
        continued.load(tmp_path / f"{number}.safetensors")
        assert continued.step == 5
        continued.train(steps=7)
        for kind, one, other in (
            ("weights", straight.model.state_dict(), continued.model.state_dict()),
            ("average", straight.average.state, continued.average.state),
        ):
            differing = [name for name in one if not torch.equal(one[name], other[name])]
            assert not differing, f"{optimizer}, {precision}: {kind} differ in {differing}"


def test_training_in_pieces_equals_training_at_once():
    whole, pieces = toy_trainer(toy_recipe()), toy_trainer(toy_recipe())
    disturber = toy_trainer(toy_recipe(), seed=5)
    whole.train(steps=6)
    for _ in range(3):
        pieces.train(steps=2)
        disturber.train(steps=1)  # another trainer between, as in a race
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, pieces.model.state_dict()[name]), name


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    toy_trainer(toy_recipe()).save(tmp_path / "toy.safetensors")
    other = toy_trainer(toy_recipe(), model=torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16 * 16 * 3, 3)))
    with pytest.raises(UserError, match="checkpoint of another model"):
        other.load(tmp_path / "toy.safetensors")


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path):
    toy_trainer(toy_recipe("adamw")).save(tmp_path / "toy.safetensors")
    with pytest.raises(UserError, match="another recipe"):
        toy_trainer(toy_recipe("sgd")).load(tmp_path / "toy.safetensors")


@pytest.mark.parametrize("keep", [0, 7, 400, -1])
def test_half_a_checkpoint_is_never_taken_for_a_whole_one(tmp_path, keep):
    path = tmp_path / "toy.safetensors"
    trainer = toy_trainer(toy_recipe())
    trainer.train(steps=1)
    trainer.save(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match="not a whole training checkpoint"):
        toy_trainer(toy_recipe()).load(path)


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nothing\.safetensors"):
        toy_trainer(toy_recipe()).load(tmp_path / "nothing.safetensors")
