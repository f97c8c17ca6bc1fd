"""Detectors of coloured shapes on clutter: trained small, and scored beside answers by chance."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from formwright.batch import Batch
from formwright.models import Network, create_model
from formwright.reporting import SILENT, Reporter

if TYPE_CHECKING:
    from formwright.data.joint_augmentation import JointAugmentation
    from formwright.metrics.detection import DetectionScores, Objects

SIDE, QUERIES, BATCH = 48, 10, 8
TRAIN_PICTURES, TEST_PICTURES = 2_048, 200


def small_detector(seed: int, depth: int = 3) -> Network:
    """An untrained detector of the three shapes, with ``depth`` layers in its decoder."""
    from formwright.data.synthetic.coloured_shapes import SHAPES

    torch.manual_seed(seed)
    return create_model("query_detector_small", classes=len(SHAPES), image_size=SIDE, queries=QUERIES, depth=depth)


def train_detector(
    seed: int,
    steps: int,
    *,
    depth: int = 3,
    augmentation: JointAugmentation | None = None,
    reporter: Reporter = SILENT,
) -> Network:
    """A detector with averaged weights, in eval mode, trained on pictures that the seed decides."""
    from formwright.data.detection import DetectionBatches
    from formwright.data.synthetic.coloured_shapes import coloured_shapes
    from formwright.objectives import SetPrediction
    from formwright.training import Progress, Recipe, Trainer

    pictures = coloured_shapes(TRAIN_PICTURES, side=SIDE, seed=1 + seed)
    batches = DetectionBatches(pictures, batch_size=BATCH, seed=seed, augmentation=augmentation)
    recipe = Recipe(batch_size=BATCH, learning_rate=0.02, warmup=20, ema_decay=0.99)
    trainer = Trainer(small_detector(seed, depth), SetPrediction(), batches, recipe, seed=seed)
    trainer.finish_at(steps)

    def tell(progress: Progress) -> None:
        reporter.progress(progress.step / steps, f"seed {seed}")

    trainer.train(steps=steps, on_step=tell)
    trained = trainer.averaged_model().eval()
    assert isinstance(trained, Network)
    return trained


@functools.cache
def unseen_pictures() -> tuple[Batch, ...]:
    """Pictures that no detector was trained on."""
    from formwright.data.detection import detection_batches
    from formwright.data.synthetic.coloured_shapes import coloured_shapes

    return tuple(detection_batches(coloured_shapes(TEST_PICTURES, side=SIDE)))


def scores(answer: Callable[[Tensor], Mapping[str, Any]]) -> DetectionScores:
    """How well what is answered by name finds the shapes of the test pictures."""
    from formwright.inference.detection import detections

    found: list[Objects] = []
    for inputs, _ in unseen_pictures():
        with torch.inference_mode():
            found += detections({name: torch.as_tensor(x) for name, x in answer(inputs).items()})
    return _scored(found)


def scores_of_chance() -> DetectionScores:
    """Answers that are boxes and classes of true objects, as many as there are queries, of any picture at all."""
    from formwright.metrics.detection import Objects

    random, truth = np.random.default_rng(0), _truth()
    boxes = np.concatenate([objects.boxes for objects in truth])
    classes = np.concatenate([objects.classes for objects in truth])
    found = []
    for _ in truth:
        drawn = random.integers(len(classes), size=QUERIES)
        found.append(Objects(boxes[drawn], classes[drawn], random.random(QUERIES)))
    return _scored(found)


def _truth() -> list[Objects]:
    from formwright.inference.detection import true_objects

    return [objects for _, targets in unseen_pictures() for objects in true_objects(targets)]


def _scored(found: list[Objects]) -> DetectionScores:
    from formwright.data.synthetic.coloured_shapes import SHAPES
    from formwright.metrics.detection import detection_scores

    return detection_scores(found, _truth(), len(SHAPES))
