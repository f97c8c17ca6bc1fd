"""Models that are trained alike on generated sequences."""

from __future__ import annotations

from typing import Literal

import torch

from formwright.batch import IGNORED, Batch
from formwright.models import Network, create_model
from formwright.nn.specification import NetworkSpec
from formwright.objectives import Objective
from formwright.reporting import SILENT, Reporter
from formwright.training.loop import TrainingBatches


def train_sequences(
    specification: NetworkSpec,
    objective: Objective,
    batches: TrainingBatches,
    *,
    steps: int,
    seed: int,
    learning_rate: float = 0.03,
    optimizer: Literal["muon", "adamw"] = "muon",
    warmup: int | None = None,
    reporter: Reporter = SILENT,
) -> Network:
    """Train a model from scratch with one plain recipe for all: cosine, averaged weights.

    Args:
        warmup: steps over which the learning rate rises; a tenth of all if unset.
    """
    from formwright.training import Progress, Recipe, Trainer

    recipe = Recipe(
        optimizer=optimizer,
        learning_rate=learning_rate,
        vector_learning_rate=learning_rate / 10,
        warmup=max(steps // 10, 1) if warmup is None else warmup,
        ema_decay=0.98,
    )
    torch.manual_seed(seed)
    trainer = Trainer(create_model(specification), objective, batches, recipe, seed=seed)
    trainer.finish_at(steps)

    def tell(progress: Progress) -> None:
        reporter.progress(progress.step / steps, f"{specification.name}, seed {seed}")

    trainer.train(steps=steps, on_step=tell)
    averaged = trainer.averaged_model()
    assert isinstance(averaged, Network)
    return averaged.eval()


@torch.inference_mode()
def answered_rightly(model: Network, batch: Batch) -> float:
    """The share of the targets that are the model's likeliest answer."""
    asked = batch.targets != IGNORED
    return float((model(batch.inputs).argmax(-1) == batch.targets)[asked].float().mean())
