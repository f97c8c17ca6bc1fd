"""A training that takes a second: random pictures, a model with dropout, drop path and batch norms."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from formwright.data.augmentation import Augmentation
from formwright.data.batches import training_batches
from formwright.data.images import from_arrays
from formwright.models import create_model
from formwright.objectives import Classification
from formwright.training import Recipe, Trainer

SIDE, CLASSES = 16, 3
COMBINATIONS = [("muon", "32-true"), ("adamw", "bf16-mixed"), ("adamw", "32-true"), ("sgd", "bf16-mixed")]


class WithBatchNorm(nn.Module):
    """A batch norm before a transformer that drops at random: buffers, and random numbers that a step draws."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.body = create_model(
            "cct_2_3x2_32", dim=32, heads=2, depth=2, classes=CLASSES, image_size=SIDE, drop_path=0.3
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.body(self.norm(images))


def toy_data():
    rng = np.random.default_rng(0)
    labels = np.arange(90) % CLASSES
    images = rng.integers(0, 256, (90, SIDE, SIDE, 3), dtype=np.uint8)
    images[..., 0] = (images[..., 0] // 2) + (60 * labels)[:, None, None].astype(np.uint8)
    return from_arrays(images, labels)


def toy_recipe(optimizer: str = "adamw", precision: str = "32-true", **changes) -> Recipe:
    rate = {"muon": 0.02, "adamw": 1e-3, "sgd": 0.02}[optimizer]
    settings = {"batch_size": 16, "warmup": 3, "ema_decay": 0.9, **changes}
    return Recipe(optimizer=optimizer, precision=precision, learning_rate=rate, **settings)


def toy_trainer(recipe: Recipe, *, seed: int = 0, model: nn.Module | None = None) -> Trainer:
    torch.manual_seed(seed)
    batches = training_batches(
        toy_data(), batch_size=recipe.batch_size, seed=seed, augmentation=Augmentation(mixup=0.2)
    )
    return Trainer(model or WithBatchNorm(), Classification(0.1), batches, recipe, seed=seed)


def train_and_be_killed(folder: Path) -> None:
    """Train each combination, saving at every fifth step, until this process is killed in step 8 of the last one."""
    torch.set_num_threads(1)
    for number, (optimizer, precision) in enumerate(COMBINATIONS):
        trainer = toy_trainer(toy_recipe(optimizer, precision))
        trainer.finish_at(12)
        last = number + 1 == len(COMBINATIONS)

        def watch(progress, trainer=trainer, number=number, last=last) -> None:
            if progress.step % 5 == 0:
                trainer.save(folder / f"{number}.safetensors")
            if last and progress.step == 8:
                os.kill(os.getpid(), signal.SIGKILL)

        trainer.train(steps=8, on_step=watch)


if __name__ == "__main__":
    train_and_be_killed(Path(sys.argv[1]))
