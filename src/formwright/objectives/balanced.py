"""Cross entropy in which every class of a batch counts alike."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.batch import Batch, call
from formwright.objectives.classification import check_targets
from formwright.objectives.objective import Objective, Outcome


class BalancedClassification(Objective):
    """``-1/C sum_c 1/N_c sum_{i of class c} log softmax(model(x_i))_c`` over the ``C`` classes in the batch.

    What PLAsTiCC's weighted log loss is with equal weights, batch by batch. Counted as ``loss`` and ``accuracy``.

    Raises:
        UserError: targets are not the class of each sample.

    Source: Paying Attention to Astronomical Transients, arXiv 2105.06178 (the authors divide by all classes, those that
    are not in the batch too).
    """

    def forward(self, model: nn.Module, batch: Batch, progress: float) -> Outcome:
        scores: Tensor = call(model, batch.inputs)
        check_targets(scores, batch.targets)
        labels = batch.targets.argmax(1) if batch.targets.is_floating_point() else batch.targets
        counts = torch.bincount(labels, minlength=scores.shape[1]).to(scores.dtype)
        weights = counts.clamp(min=1).reciprocal() / (counts > 0).sum()
        loss = F.cross_entropy(scores, labels, weight=weights, reduction="sum")
        count = scores.shape[0]
        right = (scores.detach().argmax(1) == labels).sum()
        return Outcome(
            loss, sums={"loss": loss.detach() * count, "accuracy": right}, counts={"loss": count, "accuracy": count}
        )
