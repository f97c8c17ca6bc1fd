"""Training a model so that smaller ones inside it are good too."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from formwright.batch import Batch
from formwright.errors import UserError
from formwright.models.choices import narrowed
from formwright.models.nesting import RATIOS, nested_choice, nested_width
from formwright.objectives.objective import Objective, Outcome


class NestedTraining(Objective):
    """``base`` on a nested model of one size, drawn anew for each batch, alike for all layers and with equal chances.

    Sizes are shares of the hidden channels of every channel mixer (see :mod:`formwright.models.nesting`). The first
    channels are trained by every batch, the last ones by some. In eval mode the whole model is asked.

    Args:
        base: the objective on the true targets.
        ratios: the sizes.

    Raises:
        UserError: a ratio is not in (0, 1], or none is given.

    Source: MatFormer, arXiv 2310.07707, as in the authors' code.
    """

    def __init__(self, base: Objective, ratios: Sequence[float] = RATIOS) -> None:
        super().__init__()
        if not ratios:
            raise UserError("Nested training needs at least one size to draw.")
        for ratio in ratios:
            nested_width(1, ratio)
        self.base = base
        self.ratios = tuple(ratios)

    def forward(self, model: nn.Module, batch: Batch, progress: float) -> Outcome:
        if not self.training:
            return self.base(model, batch, progress)
        ratio = self.ratios[int(torch.randint(len(self.ratios), ()))]
        with narrowed(model, nested_choice(model, ratio)):
            return self.base(model, batch, progress)

    def after_step(self) -> None:
        self.base.after_step()
