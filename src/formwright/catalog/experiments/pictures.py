"""Small pictures, and models that are trained on them alike."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from formwright.catalog.experiments.contest import Contest, macs, parameters
from formwright.models import create_model
from formwright.nn.specification import ChainSpec
from formwright.reporting import SILENT, Reporter

if TYPE_CHECKING:
    from formwright.data.images import ImageData

STEPS = 400
SIDE = 32
#: So many pictures of CIFAR-10 train and test: a small data set, as the claims say, and minutes instead of hours.
TRAIN_PICTURES, TEST_PICTURES = 5_000, 2_000


@functools.cache
def small_images() -> ImageData:
    """Pictures of 32 x 32: CIFAR-10 where ``FORMWRIGHT_DATA`` has a folder ``cifar10``, else scikit-learn's digits."""
    from formwright.data import read_images
    from formwright.data.splits import evenly_spaced

    folder = Path(os.environ.get("FORMWRIGHT_DATA", "")) / "cifar10"
    if "FORMWRIGHT_DATA" not in os.environ or not folder.is_dir():
        return read_images(None, size=SIDE)
    data = read_images(folder, size=SIDE)
    few = dataclasses.replace(
        data.split,
        train=evenly_spaced(data.split.train, TRAIN_PICTURES),
        test=evenly_spaced(data.split.test, TEST_PICTURES),
    )
    return dataclasses.replace(data, split=few)


def train_small(
    specification: ChainSpec, data: ImageData, *, steps: int, seed: int, reporter: Reporter = SILENT
) -> float:
    """Train a model from scratch with one plain recipe for all, and return its accuracy on the test pictures.

    AdamW, warm-up and cosine, batches of 64, cautious augmentation, averaged weights. The seed decides the initial
    weights and the order of the pictures.
    """
    from formwright.data.augmentation import infer_augmentation
    from formwright.data.batches import evaluation_batches, training_batches
    from formwright.objectives import Classification
    from formwright.training import Progress, Recipe, Trainer
    from formwright.training.evaluation import accuracy_of

    recipe = Recipe(
        optimizer="adamw", learning_rate=2e-3, weight_decay=0.05, batch_size=64, warmup=steps // 10, ema_decay=0.99
    )
    torch.manual_seed(seed)
    model = create_model(specification)
    batches = training_batches(data, batch_size=recipe.batch_size, seed=seed, augmentation=infer_augmentation(data))
    trainer = Trainer(model, Classification(label_smoothing=recipe.label_smoothing), batches, recipe, seed=seed)
    trainer.finish_at(steps)

    def tell(progress: Progress) -> None:
        reporter.progress(progress.step / steps, f"{specification.name}, seed {seed}")

    trainer.train(steps=steps, on_step=tell)
    return accuracy_of(trainer.averaged_model(), evaluation_batches(data, "test"))


def picture_contest(contestants: Mapping[str, Callable[[int, int], ChainSpec]], steps: int = STEPS) -> Contest[float]:
    """A contest for accuracy on small pictures.

    Args:
        contestants: the specification of each for a number of channels and of classes.
        steps: how long each is trained.
    """

    def built(build: Callable[[int, int], ChainSpec]) -> Callable[[], ChainSpec]:
        return lambda: build(small_images().channels, small_images().classes)

    def run(specification: ChainSpec, seed: int, reporter: Reporter) -> float:
        return train_small(specification, small_images(), steps=steps, seed=seed, reporter=reporter)

    def conditions() -> str:
        data = small_images()
        return (
            f"{Path(data.source).name}, {len(data.split.train):,} pictures of {SIDE} x {SIDE} to train and "
            f"{len(data.split.test):,} to test, {steps} steps"
        )

    def size(specification: ChainSpec) -> str:
        return f"{parameters(specification) / 1e3:.0f} k parameters and {macs(specification) / 1e6:.1f} M MACs"

    builders = {name: built(build) for name, build in contestants.items()}
    return Contest(builders, run, conditions, "{:.1%}".format, size=size)
