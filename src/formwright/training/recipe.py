"""How a model is trained, as plain data, and the optimiser that this means."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from formwright.nn.embeddings import TokenEmbedding
from formwright.training.muon import Muon

Precision = Literal["32-true", "bf16-mixed"]


@dataclass(frozen=True)
class Recipe:
    """Optimiser, schedule and averaging of a run.

    Attributes:
        optimizer: ``muon`` for matrices and kernels with AdamW for the rest, ``adamw`` for all, or ``sgd`` with
            Nesterov momentum of 0.9.
        learning_rate: the peak.
        vector_learning_rate: the peak of what ``muon`` leaves to AdamW.
        weight_decay: of matrices and kernels; vectors (norms, biases, scales) and tables have none.
        batch_size: samples a step.
        warmup: steps over which the rate rises from nothing to its peak.
        ema_decay: of the running average of the weights, which is what is evaluated and kept; it starts faster.
        clip: largest norm of the gradient, or none.
        label_smoothing: share of the target that is spread over all classes.
        precision: ``bf16-mixed`` computes in bfloat16 and keeps weights in float32.
    """

    optimizer: Literal["muon", "adamw", "sgd"] = "muon"
    learning_rate: float = 0.03
    vector_learning_rate: float = 3e-3
    weight_decay: float = 0.02
    batch_size: int = 128
    warmup: int = 100
    ema_decay: float = 0.998
    clip: float | None = 1.0
    label_smoothing: float = 0.1
    precision: Precision = "32-true"


@dataclass(frozen=True)
class Schedule:
    """The learning rate over steps: a linear warm-up, a plateau, and a cosine to nothing.

    A run whose length is not known yet has no decay (``decay_start`` is none); it decays from when the length is.
    ``rate(step) = peak * min(1, (step + 1) / warmup) * (1 + cos(pi * t)) / 2`` with
    ``t = (step - decay_start) / (total - decay_start)`` after ``decay_start``, 0 before.
    """

    warmup: int
    total: int | None = None
    decay_start: float | None = None

    def factor(self, step: int) -> float:
        warm = min(1.0, (step + 1) / max(self.warmup, 1))
        return warm * 0.5 * (1 + math.cos(math.pi * self.decayed(step)))

    def decayed(self, step: int) -> float:
        """How far the decay is, 0 to 1."""
        if self.decay_start is None or self.total is None or step < self.decay_start:
            return 0.0
        return min((step - self.decay_start) / max(self.total - self.decay_start, 1), 1.0)

    def stretched(self, step: int, total: int) -> Schedule:
        """The schedule that ends at ``total`` instead and has the same rate at ``step``: a clock ran fast or slow."""
        done = self.decayed(step)
        if self.decay_start is None or done >= 1 or total <= step:
            return self
        start = (step - done * total) / (1 - done) if done else self.decay_start
        return Schedule(self.warmup, total, start)


#: Matrices with a side shorter than this are left to AdamW: there is little to make orthogonal.
_SMALLEST_SIDE = 8


def build_optimizers(recipe: Recipe, modules: Iterable[nn.Module]) -> list[torch.optim.Optimizer]:
    """The optimisers of a recipe over everything in ``modules`` that can be trained; each group knows its peak rate."""
    modules = list(modules)
    matrices, decayed, free = [], [], []
    looked_up = {id(parameter) for parameter in _looked_up(modules)}
    for module in modules:
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            if parameter.ndim < 2 or name.endswith(_TABLES) or id(parameter) in looked_up:
                free.append(parameter)
            elif recipe.optimizer == "muon" and min(parameter.flatten(1).shape) >= _SMALLEST_SIDE:
                matrices.append(parameter)
            else:
                decayed.append(parameter)
    optimizers: list[torch.optim.Optimizer] = []
    if matrices:
        optimizers.append(Muon(matrices, lr=recipe.learning_rate, weight_decay=recipe.weight_decay))
    decay = 0.0 if recipe.optimizer == "muon" else recipe.weight_decay
    groups = [{"params": decayed, "weight_decay": decay}, {"params": free, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if groups and recipe.optimizer == "sgd":
        optimizers.append(torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=0.9, nesterov=True))
    elif groups:
        rate = recipe.vector_learning_rate if recipe.optimizer == "muon" else recipe.learning_rate
        optimizers.append(torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.99), fused=True))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers


def _looked_up(modules: Iterable[nn.Module]) -> Iterator[nn.Parameter]:
    """Vectors of vocabularies: a step sees some rows of them, so there is nothing to make orthogonal or to decay."""
    for module in modules:
        for part in module.modules():
            if isinstance(part, TokenEmbedding):
                yield from part.parameters()


#: Learned tables and tokens look like matrices and are not: they have no weight decay, like vectors.
_TABLES = ("table", "tables", "tokens", "biases")
