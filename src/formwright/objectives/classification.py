"""Cross entropy over classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.batch import Batch, call
from formwright.errors import UserError
from formwright.objectives.objective import Objective, Outcome


def check_targets(scores: Tensor, targets: Tensor) -> None:
    """Refuse targets that are neither the class of each sample nor its share of each class.

    Raises:
        UserError: names both shapes.
    """
    batch, classes = scores.shape
    one_class = targets.shape == (batch,) and not targets.is_floating_point()
    if not one_class and not (targets.shape == (batch, classes) and targets.is_floating_point()):
        raise UserError(
            f"For scores of {batch} samples and {classes} classes, targets are whole numbers of shape ({batch},) or "
            f"shares of shape ({batch}, {classes}); got {targets.dtype} of shape {tuple(targets.shape)}."
        )


class Classification(Objective):
    """Cross entropy ``-sum_k t_k log softmax(model(x))_k``, its mean over the batch.

    ``t`` is the target, one class or a share of each (as mixing images gives), smoothed: ``(1 - s) t + s / classes``.
    Counted as ``loss`` and ``accuracy``; with shares, the right class is the largest.

    Args:
        label_smoothing: the ``s`` above, from 0 to below 1.
        weights: how much each class counts, one for each; alike if unset.

    Raises:
        UserError: ``label_smoothing`` is out of range, or targets do not fit the model's scores.

    Source of the smoothing: Rethinking the Inception Architecture for Computer Vision, arXiv 1512.00567.
    """

    weights: Tensor | None

    def __init__(self, label_smoothing: float = 0.0, weights: Sequence[float] | None = None) -> None:
        super().__init__()
        tensor = None if weights is None else torch.tensor(weights, dtype=torch.float32)
        self.register_buffer("weights", tensor, persistent=False)
        if not 0 <= label_smoothing < 1:
            raise UserError(f"Label smoothing lies between 0 and 1, got {label_smoothing}.")
        self.label_smoothing = label_smoothing

    def forward(self, model: nn.Module, batch: Batch, progress: float) -> Outcome:
        scores: Tensor = call(model, batch.inputs)
        check_targets(scores, batch.targets)
        weights = None if self.weights is None else self.weights.to(scores)
        loss = F.cross_entropy(scores, batch.targets, weight=weights, label_smoothing=self.label_smoothing)
        count = scores.shape[0]
        classes = batch.targets.argmax(1) if batch.targets.is_floating_point() else batch.targets
        right = (scores.detach().argmax(1) == classes).sum()
        return Outcome(
            loss,
            sums={"loss": loss.detach() * count, "accuracy": right},
            counts={"loss": count, "accuracy": count},
        )
