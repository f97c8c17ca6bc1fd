"""Pictures with objects: what may be in them, and batches that continue and are the same again."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from formwright.data.detection import DetectionBatches, DetectionData, detection_batches
from formwright.data.joint_augmentation import JointAugmentation
from formwright.data.synthetic.coloured_shapes import coloured_shapes
from formwright.errors import UserError
from formwright.models import create_model
from formwright.nn.functional.boxes import NO_OBJECT
from formwright.objectives import SetPrediction
from formwright.training import Recipe, Trainer

AUGMENTATION = JointAugmentation(flip=True, crop=0.5)


def data(count: int = 10) -> DetectionData:
    return coloured_shapes(count, side=24, most=2)


def test_batches_hold_pictures_and_targets_by_name() -> None:
    batch = next(DetectionBatches(data(), batch_size=4))
    assert batch.inputs.shape == (4, 3, 24, 24)
    assert batch.inputs.dtype is torch.float32
    assert {name: tuple(x.shape) for name, x in batch.targets.items()} == {"classes": (4, 2), "boxes": (4, 2, 4)}
    whole = data()
    parts = list(detection_batches(whole, batch_size=4))
    assert [len(part.inputs) for part in parts] == [4, 4, 2]
    assert torch.equal(torch.cat([part.targets["classes"] for part in parts]), torch.from_numpy(whole.objects))
    expected = (torch.from_numpy(whole.images[9]).float() / 255 - 0.5) / 0.25
    torch.testing.assert_close(parts[2].inputs[1], expected.permute(2, 0, 1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("augmentation", [None, AUGMENTATION])
def test_a_batch_depends_on_seed_and_step_alone(augmentation: JointAugmentation | None) -> None:
    whole = data()
    one = DetectionBatches(whole, batch_size=4, seed=3, augmentation=augmentation)
    expected = [next(one) for _ in range(5)]
    other = DetectionBatches(whole, batch_size=4, seed=3, augmentation=augmentation)
    state = {**other.state_dict(), "step": 3}
    other.load_state_dict(json.loads(json.dumps(state)))
    again = next(other)
    assert torch.equal(again.inputs, expected[3].inputs)
    assert all(torch.equal(again.targets[name], x) for name, x in expected[3].targets.items())


def test_a_training_resumes_to_the_same_weights(tmp_path: Path) -> None:
    def trainer() -> Trainer:
        torch.manual_seed(0)
        model = create_model(
            "query_detector_small",
            dims=(8, 8),
            depths=(1, 1),
            levels=2,
            dim=8,
            heads=2,
            depth=2,
            classes=3,
            image_size=24,
        )
        batches = DetectionBatches(data(), batch_size=4, augmentation=AUGMENTATION)
        made = Trainer(model, SetPrediction(), batches, Recipe(warmup=2))
        made.finish_at(step=6)
        return made

    whole = trainer()
    whole.train(steps=6)
    first = trainer()
    first.train(steps=3)
    first.save(tmp_path / "run.safetensors")
    second = trainer()
    second.load(tmp_path / "run.safetensors")
    second.train(steps=3)
    state = second.model.state_dict()
    assert all(torch.equal(x, state[name]) for name, x in whole.model.state_dict().items())


def test_what_does_not_fit_is_said() -> None:
    whole = data()
    row, column = np.argwhere(whole.objects != NO_OBJECT)[0]
    outside = whole.boxes.copy()
    outside[row, column, 0] = 0.99
    with pytest.raises(UserError, match=r"box \(0\.99, .* does not lie inside its picture.*clip it or leave it out"):
        dataclasses.replace(whole, boxes=outside)
    with pytest.raises(UserError, match="There are 1 classes, from 0, and objects of classes from 0 to 2"):
        dataclasses.replace(coloured_shapes(40, side=24), classes=1)
    with pytest.raises(UserError, match=r"got \(10, 24, 24, 3\), \(10, 2\) and \(10, 1, 4\)"):
        dataclasses.replace(whole, boxes=whole.boxes[:, :1])
