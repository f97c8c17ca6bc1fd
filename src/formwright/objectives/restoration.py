"""The distance of a restored picture from the true one."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from formwright.batch import Batch, call
from formwright.errors import UserError
from formwright.objectives.objective import Objective, Outcome


class PixelDistance(Objective):
    """``mean |y - t|`` (``l1``) or ``mean (y - t)²`` (``l2``) over all values of the batch.

    Counted is ``loss`` per picture.

    Args:
        norm: ``l2`` as ESPCN was trained, or ``l1``.

    Raises:
        UserError: another norm, or targets of another shape than the answers.

    Source: Loss Functions for Image Restoration with Neural Networks, arXiv 1511.08861.
    """

    def __init__(self, norm: Literal["l1", "l2"] = "l1") -> None:
        super().__init__()
        if norm not in ("l1", "l2"):
            raise UserError(f'The distance of pictures is "l1" or "l2", not {norm!r}.')
        self.norm = norm

    def forward(self, model: nn.Module, batch: Batch, progress: float) -> Outcome:
        answers: Tensor = call(model, batch.inputs)
        targets: Tensor = batch.targets
        if answers.shape != targets.shape:
            raise UserError(
                f"Restored pictures have the shape {tuple(answers.shape)} and the true ones {tuple(targets.shape)}; "
                "the scale of the network must be that of the data."
            )
        loss = (F.l1_loss if self.norm == "l1" else F.mse_loss)(answers, targets)
        count = len(targets)
        return Outcome(loss, sums={"loss": loss.detach() * count}, counts={"loss": count})
