"""Numbers to be told, whatever they are told of."""

from __future__ import annotations

from torch import nn
from torch.nn import functional as F

from formwright.batch import Batch, call
from formwright.objectives.objective import Objective, Outcome


class Regression(Objective):
    """The Huber loss of ``(batch, outputs)``: ``e^2 / 2`` of errors up to one and ``|e| - 1/2`` beyond, the mean.

    Targets are ``(batch, outputs)``, scaled to deviation one. Counted as ``loss``.

    Source: Robust Estimation of a Location Parameter, Annals of Mathematical Statistics 35 (1), 1964.
    """

    def forward(self, model: nn.Module, batch: Batch, progress: float) -> Outcome:
        loss = F.smooth_l1_loss(call(model, batch.inputs).float(), batch.targets)
        count = len(batch.targets)
        return Outcome(loss, {"loss": loss.detach() * count}, {"loss": count})
