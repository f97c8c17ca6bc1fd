"""Learning from a teacher's answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.batch import Batch, call
from formwright.errors import UserError
from formwright.nn.heads import DistillationHead
from formwright.nn.taps import read_taps
from formwright.objectives.objective import Objective, Outcome


class Distillation(Objective):
    """``(1 - w) base + w T² KL(softmax(teacher / T) || softmax(student / T))``, the mean over the batch.

    The teacher sees what the student saw, in eval mode and without gradient. It belongs to whoever made it: it follows
    ``.to(...)``, and is neither trained nor saved, neither with the student nor with this objective. A student with a
    :class:`~formwright.nn.heads.DistillationHead` follows the teacher with its second classifier. Counted besides what
    ``base`` counts: ``distillation``, the term ``T² KL``, and ``loss`` becomes the whole.

    Args:
        teacher: gives scores for the same classes.
        base: the objective on the true targets.
        temperature: the ``T`` above; a higher one shows more of how the teacher ranks the wrong classes.
        weight: the ``w`` above, 0 to 1.

    Raises:
        UserError: ``temperature`` or ``weight`` is out of range, or teacher and student have other classes.

    Source: Distilling the Knowledge in a Neural Network, arXiv 1503.02531; the head: Training Data-Efficient Image
    Transformers, arXiv 2012.12877.
    """

    teacher: nn.Module

    def __init__(self, teacher: nn.Module, base: Objective, *, temperature: float = 2.0, weight: float = 0.5) -> None:
        super().__init__()
        if temperature <= 0:
            raise UserError(f"The temperature of a distillation is positive, got {temperature}.")
        if not 0 <= weight <= 1:
            raise UserError(f"The weight of a distillation lies between 0 and 1, got {weight}.")
        # Not a submodule: nobody's parameters(), state_dict() or train() shall reach it through the objective.
        self.__dict__["teacher"] = teacher.eval()
        self.base = base
        self.temperature = temperature
        self.weight = weight

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.teacher._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def forward(self, model: nn.Module, batch: Batch, progress: float) -> Outcome:
        heads = (name for name, module in model.named_modules() if isinstance(module, DistillationHead))
        own = next(heads, None)
        answer = ":output" if own is None else f"{own}.distilled:output".lstrip(".")
        with read_taps(model, (":input", answer)) as values:
            outcome = self.base(model, batch, progress)
        student: Tensor = values[answer]
        with torch.no_grad():
            teacher: Tensor = call(self.teacher, values[":input"])
        if teacher.shape != student.shape:
            raise UserError(
                f"The teacher gives scores of shape {tuple(teacher.shape)} and the student of {tuple(student.shape)}; "
                "both must be built for the same classes."
            )
        # A row for each decision: a sample has one, a text that is continued has one a token.
        divergence = self.temperature**2 * F.kl_div(
            F.log_softmax(student.flatten(0, -2) / self.temperature, dim=-1),
            F.log_softmax(teacher.flatten(0, -2) / self.temperature, dim=-1),
            reduction="batchmean",
            log_target=True,
        )
        loss = (1 - self.weight) * outcome.loss + self.weight * divergence
        count = student.shape[0]
        return Outcome(
            loss,
            sums={**outcome.sums, "loss": loss.detach() * count, "distillation": divergence.detach() * count},
            counts={**outcome.counts, "loss": count, "distillation": count},
        )

    def after_step(self) -> None:
        self.base.after_step()
