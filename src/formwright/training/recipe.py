"""How a model is trained, as plain data, and the optimiser that this means."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

Precision = Literal["32-true", "bf16-mixed"]


@dataclass(frozen=True)
class Recipe:
    """Optimiser, schedule and averaging of a run.

    Attributes:
        optimizer: ``adamw``, or ``sgd`` with Nesterov momentum of 0.9.
        learning_rate: the peak.
        weight_decay: of matrices and kernels; vectors (norms, biases, scales) and tables have none.
        batch_size: samples a step.
        warmup: steps over which the rate rises from nothing to its peak.
        ema_decay: of the running average of the weights, which is what is evaluated and kept; it starts faster.
        clip: largest norm of the gradient, or none.
        label_smoothing: share of the target that is spread over all classes.
        precision: ``bf16-mixed`` computes in bfloat16 and keeps weights in float32.
    """

    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
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
    decay_start: int | None = None

    def factor(self, step: int) -> float:
        warm = min(1.0, (step + 1) / max(self.warmup, 1))
        if self.decay_start is None or self.total is None or step < self.decay_start:
            return warm
        done = (step - self.decay_start) / max(self.total - self.decay_start, 1)
        return warm * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def build_optimizer(recipe: Recipe, modules: Iterable[nn.Module]) -> torch.optim.Optimizer:
    """The optimiser of a recipe over all parameters of ``modules`` that can be trained."""
    decayed, free = [], []
    for module in modules:
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                table = name.endswith(("table", "tokens", "position_bias"))
                (free if parameter.ndim < 2 or table else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": free, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.99), fused=True)
