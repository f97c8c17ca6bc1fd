"""Training a supernet: one network whose weights hold many smaller ones."""

from __future__ import annotations

import random
from typing import Protocol

import torch
from torch import nn

from formwright.batch import Batch
from formwright.errors import UserError
from formwright.models.choices import Choice, narrowed
from formwright.objectives.objective import Objective, Outcome


class Choices(Protocol):
    """Choices out of a network, such as :func:`formwright.search.supernets.space_of` finds."""

    @property
    def largest(self) -> Choice: ...

    @property
    def smallest(self) -> Choice: ...

    def sample(self, chance: random.Random) -> Choice: ...


class SandwichTraining(Objective):
    """``base`` on the largest choice, the smallest and ``drawn`` others, anew for each batch: the mean of the losses.

    The largest and the smallest bound what those in between can do, so training both trains all. What is counted is
    that of the largest choice. In eval mode the whole model is asked.

    Args:
        base: the objective on the true targets.
        space: the choices out of the model.
        drawn: how many are drawn from ``space`` for each batch.

    Raises:
        UserError: ``drawn`` is negative.

    Source: Universally Slimmable Networks and Improved Training Techniques, arXiv 1903.05134, without its distillation.
    """

    def __init__(self, base: Objective, space: Choices, drawn: int = 2) -> None:
        super().__init__()
        if drawn < 0:
            raise UserError(f"The number of choices drawn for each batch is 0 or more, got {drawn}.")
        self.base, self.space, self.drawn = base, space, drawn

    def forward(self, model: nn.Module, batch: Batch, progress: float) -> Outcome:
        if not self.training:
            return self.base(model, batch, progress)
        # Seeded by PyTorch's generator, which a training saves and continues with.
        chance = random.Random(int(torch.randint(2**62, ())))
        others = [self.space.sample(chance) for _ in range(self.drawn)]
        outcomes = []
        for choice in (self.space.largest, self.space.smallest, *others):
            with narrowed(model, choice):
                outcomes.append(self.base(model, batch, progress))
        loss = torch.stack([outcome.loss for outcome in outcomes]).mean()
        return Outcome(loss, outcomes[0].sums, outcomes[0].counts)

    def after_step(self) -> None:
        self.base.after_step()
