"""A generator and a discriminator of 8 x 8 digits, small enough to learn in seconds."""

from __future__ import annotations

import functools
import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from formwright.batch import Batch
from formwright.data.array_batches import ArrayBatches
from formwright.objectives import Objective, Outcome, Phase
from formwright.training import Group, Recipe, Trainer

NOISE, PIXELS, HIDDEN, BATCH = 16, 64, 64, 128
EPOCHS, KILLED_AT, SAVED_AT = 8, 33, 31
RECIPE = Recipe(
    optimizer="adamw",
    learning_rate=2e-3,
    weight_decay=0.0,
    batch_size=BATCH,
    warmup=0,
    ema_decay=0.95,
    clip=None,
    betas=(0.5, 0.99),
    groups=(Group("objective.discriminator.*", 2.0),),
)


class Adversarial(Objective):
    """The discriminator tells digits from drawings, the generator draws what it takes for digits (the authors' loss).

    Source: Generative Adversarial Networks, arXiv 1406.2661, with the loss of the generator that does not saturate.
    """

    def __init__(self) -> None:
        super().__init__()
        self.discriminator = nn.Sequential(
            spectral_norm(nn.Linear(PIXELS, HIDDEN)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Linear(HIDDEN, HIDDEN)),
            nn.LeakyReLU(0.2),
            nn.Linear(HIDDEN, 1),
        )

    def phases(self, model: nn.Module) -> tuple[Phase, ...]:
        return (Phase(self.tell_apart, (self.discriminator,), "discriminator"), Phase(self, (model,), "generator"))

    def draw(self, model: nn.Module, batch: Batch) -> Tensor:
        return model(torch.randn(len(batch.inputs), NOISE))

    def tell_apart(self, model: nn.Module, batch: Batch, progress: float) -> Outcome:
        real, drawn = self.discriminator(batch.inputs), self.discriminator(self.draw(model, batch))
        return Outcome(F.softplus(-real).mean() + F.softplus(drawn).mean())

    def forward(self, model: nn.Module, batch: Batch, progress: float) -> Outcome:
        return Outcome(F.softplus(-self.discriminator(self.draw(model, batch))).mean())


def generator() -> nn.Module:
    return nn.Sequential(
        nn.Linear(NOISE, HIDDEN),
        nn.BatchNorm1d(HIDDEN),
        nn.ReLU(),
        nn.Linear(HIDDEN, HIDDEN),
        nn.BatchNorm1d(HIDDEN),
        nn.ReLU(),
        nn.Linear(HIDDEN, PIXELS),
        nn.Sigmoid(),
    )


@functools.cache
def digits() -> np.ndarray:
    return (load_digits().data / 16).astype(np.float32)


@torch.no_grad()
def moment_distance(model: nn.Module) -> float:
    """Between real and drawn digits: of their means, and of their covariances (Frobenius)."""
    noise = torch.randn(2000, NOISE, generator=torch.Generator().manual_seed(0))
    drawn, real = model.eval()(noise).double(), torch.from_numpy(digits()).double()
    means = (drawn.mean(0) - real.mean(0)).norm()
    return float(means + (drawn.T.cov() - real.T.cov()).norm())


def gan_trainer() -> Trainer:
    torch.manual_seed(0)
    batches = ArrayBatches(digits(), digits(), batch_size=BATCH, seed=0)
    return Trainer(generator(), Adversarial(), batches, RECIPE, seed=0)


def fit(trainer: Trainer, on_step=None) -> nn.Module:
    return trainer.fit(epochs=EPOCHS, evaluate=lambda model: -moment_distance(model), on_step=on_step)


def train_and_be_killed(folder: Path) -> None:
    """Save in the middle of the third epoch, and be killed two steps later."""
    torch.set_num_threads(1)
    trainer = gan_trainer()

    def watch(progress) -> None:
        if progress.step == SAVED_AT:
            trainer.save(folder / "gan.safetensors")
        if progress.step == KILLED_AT:
            os.kill(os.getpid(), signal.SIGKILL)

    fit(trainer, watch)


if __name__ == "__main__":
    train_and_be_killed(Path(sys.argv[1]))
