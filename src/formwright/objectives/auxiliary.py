"""Losses that the parts of a model report, weighed beside what it is trained for."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping

from torch import nn

from formwright.batch import Batch
from formwright.errors import UserError
from formwright.nn.auxiliary import collect
from formwright.objectives.objective import Objective, Outcome, Phase


class WithAuxiliary(Objective):
    """``base + sum_n w_n sum_parts loss_n``: reported losses, such as the balance of experts, are optimised too.

    Losses of one name are added over the parts and calls that reported them. Counted besides what ``base`` counts:
    every loss and statistic that was reported, by name, and ``loss`` becomes the whole. In eval mode it is ``base``.

    Args:
        base: the objective on the targets.
        weights: factor of each loss, by the name under which parts report it.

    Raises:
        UserError: a weight is no number, or, when it runs, no part reports a loss of that name.

    Source: weighed and added over layers as in Switch Transformers, arXiv 2101.03961 (there 0.01).
    """

    def __init__(self, base: Objective, weights: Mapping[str, float]) -> None:
        super().__init__()
        for name, weight in weights.items():
            if not math.isfinite(weight):
                raise UserError(f"The weight of the loss {name!r} is {weight}; a number is expected.")
        self.base = base
        self.weights = dict(weights)

    def forward(self, model: nn.Module, batch: Batch, progress: float) -> Outcome:
        return self._weighed(self.base, model, batch, progress)

    def phases(self, model: nn.Module) -> tuple[Phase, ...]:
        """Those of ``base``; the losses are added where the model is trained."""
        return tuple(
            Phase(functools.partial(self._weighed, phase.run), phase.modules, phase.name)
            if model in phase.modules
            else phase
            for phase in self.base.phases(model)
        )

    def _weighed(
        self, run: Callable[[nn.Module, Batch, float], Outcome], model: nn.Module, batch: Batch, progress: float
    ) -> Outcome:
        if not self.training:
            return run(model, batch, progress)
        with collect(model) as auxiliary:
            outcome = run(model, batch, progress)
        loss = outcome.loss
        for name, weight in self.weights.items():
            loss = loss + weight * auxiliary.loss(name)
        reported = {name: auxiliary.loss(name).detach() for name in auxiliary.losses}
        reported |= {name: auxiliary.statistic(name) for name in auxiliary.statistics}
        reported["loss"] = loss.detach()
        count = outcome.counts.get("loss", 1)
        return Outcome(
            loss,
            sums={**outcome.sums, **{name: value * count for name, value in reported.items()}},
            counts={**outcome.counts, **dict.fromkeys(reported, count)},
        )

    def after_step(self) -> None:
        self.base.after_step()
