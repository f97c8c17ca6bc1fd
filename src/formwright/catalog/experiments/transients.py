"""Transients that are told apart from their light curves: what the claims of t2 and Tiny t2 are measured on."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from formwright.data.array_batches import ArrayBatches
from formwright.data.gaussian_process import interpolate
from formwright.data.light_curves import RobustScale, append_features
from formwright.data.synthetic.light_curves import synthetic_light_curves
from formwright.metrics.classification import softmax
from formwright.models import Network
from formwright.objectives import BalancedClassification, Objective
from formwright.reporting import SILENT, Reporter
from formwright.training import Progress, Recipe, Trainer

TRAIN_CURVES, TEST_CURVES = 1_400, 700
STEPS = 300
BATCH = 64
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class GriddedTransients:
    """Light curves on a grid, scaled by the training part: ``(n, 100, 6)``, features ``(n, 2)`` and labels ``(n,)``."""

    classes: tuple[str, ...]
    train: Floats
    train_features: Floats
    train_labels: NDArray[np.int64]
    test: Floats
    test_features: Floats
    test_labels: NDArray[np.int64]

    def series(self, *, features: bool) -> tuple[Floats, Floats]:
        """What a model takes, to train and to test, with the host's redshift as further channels or without."""
        if not features:
            return self.train, self.test
        return append_features(self.train, self.train_features), append_features(self.test, self.test_features)


@functools.cache
def transients() -> GriddedTransients:
    """Synthetic light curves of seven classes, put on the grid by Gaussian processes; a minute of work."""
    curves = synthetic_light_curves(TRAIN_CURVES + TEST_CURVES, seed=0)
    grid = interpolate(curves)
    assert curves.labels is not None
    assert curves.features is not None
    scale = RobustScale.of(grid[:TRAIN_CURVES])
    grid = np.arcsinh(scale(grid))  # fluxes differ by powers of ten; near zero this is the identity
    return GriddedTransients(
        curves.classes,
        grid[:TRAIN_CURVES],
        curves.features[:TRAIN_CURVES],
        curves.labels[:TRAIN_CURVES],
        grid[TRAIN_CURVES:],
        curves.features[TRAIN_CURVES:],
        curves.labels[TRAIN_CURVES:],
    )


def train_on(
    model: Network,
    series: Floats,
    labels: NDArray[np.int64],
    *,
    steps: int = STEPS,
    seed: int = 0,
    learning_rate: float = 5e-3,
    objective: Objective | None = None,
    reporter: Reporter = SILENT,
) -> Network:
    """Train ``model`` in place with AdamW, warm-up and cosine; the same with averaged weights comes back."""
    recipe = Recipe(
        optimizer="adamw", learning_rate=learning_rate, weight_decay=0.01, batch_size=BATCH, warmup=steps // 10,
        ema_decay=0.99,
    )  # fmt: skip
    batches = ArrayBatches(series, labels, batch_size=BATCH, seed=seed)
    trainer = Trainer(model, objective or BalancedClassification(), batches, recipe, seed=seed)
    trainer.finish_at(steps)

    def tell(progress: Progress) -> None:
        reporter.progress(progress.step / steps, f"{model.specification.name}, seed {seed}")

    trainer.train(steps=steps, on_step=tell)
    averaged = trainer.averaged_model()
    assert isinstance(averaged, Network)
    return averaged


@torch.inference_mode()
def probabilities(model: Network, series: NDArray[np.floating]) -> Floats:
    """What a model says of each of ``(n, steps, channels)``: ``(n, classes)``."""
    parts = torch.split(torch.from_numpy(series).float(), 256)
    return softmax(torch.cat([model.eval()(part) for part in parts]).numpy())


def logistic_regression(series: Floats, labels: NDArray[np.int64], test: Floats) -> Floats:
    """Multinomial logistic regression on all values of the series, standardised: the plain peer."""
    from sklearn.linear_model import LogisticRegression

    flat, flat_test = (values.reshape(len(values), -1) for values in (series, test))
    mean, deviation = flat.mean(0), flat.std(0).clip(min=1e-6)
    model = LogisticRegression(max_iter=200, C=0.01)
    return np.asarray(model.fit((flat - mean) / deviation, labels).predict_proba((flat_test - mean) / deviation))
