"""Cross entropy and overlap over the classes of places: what segmentation optimises."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.batch import Batch, call
from formwright.errors import UserError
from formwright.objectives.objective import Objective, Outcome


class DenseClassification(Objective):
    """Cross entropy at each place, plus ``dice`` times one minus the soft Dice overlap of the classes.

    ``-mean_p log softmax(scores_p)_{t_p} + dice (1 - mean_k 2 sum_p s_pk [t_p = k] / sum_p (s_pk + [t_p = k]))`` with
    ``s = softmax(scores)``, the sums over all places of the batch and the last mean over the classes that are among
    the targets. Targets are whole numbers ``(batch, *grid)`` for scores ``(batch, classes, *grid)``; places whose
    target is ``ignored`` (padding, or what nobody has labelled) count nowhere.

    Counted are ``loss`` and ``accuracy`` for each place, and ``iou`` for each class that is among the targets of a
    sample: places of target and answer over places of either.

    Args:
        dice: weight of the overlap.
        ignored: the target of places that do not count.

    Raises:
        UserError: the weight is negative, targets do not fit the scores, or name a class that there is none of.

    Source of the overlap: V-Net: Fully Convolutional Neural Networks for Volumetric Medical Image Segmentation, arXiv
    1606.04797, with a Dice of each class and sums of probabilities instead of squares, as nnU-Net has it.
    """

    def __init__(self, dice: float = 0.0, *, ignored: int = -100) -> None:
        super().__init__()
        if dice < 0:
            raise UserError(f"The weight of the overlap is at least 0, got {dice}.")
        self.dice, self.ignored = dice, ignored

    def forward(self, model: nn.Module, batch: Batch, progress: float) -> Outcome:
        scores: Tensor = call(model, batch.inputs)
        targets: Tensor = batch.targets
        counts = targets != self.ignored
        self._check(scores, targets, counts)
        places = int(counts.sum())
        total = F.cross_entropy(scores, targets, ignore_index=self.ignored, reduction="sum")
        loss = total / max(places, 1)
        if self.dice:
            loss = loss + self.dice * (1 - soft_dice(scores, targets, counts))
        answers = scores.detach().argmax(1)
        overlap, classes = intersections_over_unions(answers, targets, counts, scores.shape[1])
        return Outcome(
            loss,
            sums={"loss": loss.detach() * places, "accuracy": ((answers == targets) & counts).sum(), "iou": overlap},
            counts={"loss": places, "accuracy": places, "iou": classes},
        )

    def _check(self, scores: Tensor, targets: Tensor, counts: Tensor) -> None:
        expected = (scores.shape[0], *scores.shape[2:])
        if tuple(targets.shape) != expected or targets.is_floating_point():
            raise UserError(
                f"For scores of shape {tuple(scores.shape)}, targets are whole numbers of shape {expected}, the class "
                f"of each place; got {targets.dtype} of shape {tuple(targets.shape)}."
            )
        named = targets[counts]
        if named.numel() and not 0 <= int(named.min()) <= int(named.max()) < scores.shape[1]:
            raise UserError(
                f"There are {scores.shape[1]} classes, from 0, and targets from {int(named.min())} to "
                f"{int(named.max())}; places that do not count have the target {self.ignored}."
            )


def soft_dice(
    scores: Float[Tensor, "batch classes *grid"],
    targets: Int[Tensor, "batch *grid"],
    counts: Bool[Tensor, "batch *grid"],
) -> Float[Tensor, ""]:
    """The mean of ``2 sum_p s_pk [t_p = k] / sum_p (s_pk + [t_p = k])`` over the classes among the targets.

    It is 1 where there are none.
    """
    shares = scores.softmax(1) * counts.unsqueeze(1)
    chosen = _one_hot(targets, counts, scores.shape[1]).to(scores.dtype)
    axes = (0, *range(2, scores.ndim))
    given = chosen.sum(axes)
    overlap = 2 * (shares * chosen).sum(axes) / (shares.sum(axes) + given).clamp(min=1e-6)
    there = (given > 0).to(scores.dtype)
    return torch.where(there.sum() > 0, (overlap * there).sum() / there.sum().clamp(min=1), 1.0)


def intersections_over_unions(
    answers: Int[Tensor, "batch *grid"],
    targets: Int[Tensor, "batch *grid"],
    counts: Bool[Tensor, "batch *grid"],
    classes: int,
) -> tuple[Float[Tensor, ""], int]:
    """The sum of the overlaps of all classes that are among the targets of their sample, and how many there are."""
    answered, given = (_one_hot(each, counts, classes).flatten(2) for each in (answers, targets))
    both, either = (answered & given).sum(2), (answered | given).sum(2)
    there = given.any(2)
    return (both / either.clamp(min=1))[there].sum(), int(there.sum())


def _one_hot(
    labels: Int[Tensor, "batch *grid"], counts: Bool[Tensor, "batch *grid"], classes: int
) -> Bool[Tensor, "batch classes *grid"]:
    every = torch.arange(classes, device=labels.device).view(-1, *[1] * (labels.ndim - 1))
    return (labels.unsqueeze(1) == every) & counts.unsqueeze(1)
