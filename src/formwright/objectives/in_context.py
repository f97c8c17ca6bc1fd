"""The loss of regression in context, after each of the last loops where a model has a loop."""

from __future__ import annotations

import torch
from torch import nn

from formwright.batch import Batch
from formwright.data.synthetic.in_context import at_points
from formwright.errors import UserError
from formwright.models import Chain
from formwright.models.language.algoformer import has_loop, loop_scores
from formwright.objectives.objective import Objective, Outcome


class InContextRegression(Objective):
    """``mean_t mean_i (y_i - prediction_t(x_i))²`` over the points ``i`` of a prompt and the last loops ``t``.

    Inputs are prompts ``(batch, 2 points, dim)``, targets the values ``(batch, points)``. Counted as ``loss`` is the
    squared error after the last loop.

    Args:
        last: over how many of the last loops it is averaged; models without a loop have one answer.

    Raises:
        UserError: the model has fewer loops.

    Source: AlgoFormer, arXiv 2402.13572; it keeps further loops than were trained from blowing up.
    """

    def __init__(self, last: int = 1) -> None:
        super().__init__()
        if last < 1:
            raise UserError(f"The loss is averaged over at least 1 loop, not {last}.")
        self.last = last

    def forward(self, model: nn.Module, batch: Batch, progress: float) -> Outcome:
        bare = getattr(model, "module", model)
        if isinstance(bare, Chain) and has_loop(bare):
            scores = list(loop_scores(bare, batch.inputs, self.last))
        else:
            scores = [model(batch.inputs)]
        losses = torch.stack([(at_points(each) - batch.targets).square().mean() for each in scores])
        count = batch.targets.numel()
        return Outcome(losses.mean(), sums={"loss": losses[-1].detach() * count}, counts={"loss": count})
