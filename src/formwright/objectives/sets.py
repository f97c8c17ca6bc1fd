"""Sets of objects: each true one is matched with the answer that fits it best, and the others are to say that they
found nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.batch import Batch, call
from formwright.errors import UserError
from formwright.nn.functional.boxes import NO_OBJECT, check_boxes, generalised_overlaps, to_corners
from formwright.objectives.objective import Objective, Outcome


class SetPrediction(Objective):
    """Classes and boxes of sets: ``L = L_class + 5 L_1 + 2 L_GIoU`` for every layer's set of answers, summed.

    Answers ``s`` (of softmax, the last class being no object) and ``b`` are matched with the objects ``c, t`` of a
    picture by the assignment of least ``sum -s_c + 5 |b - t|_1 - 2 GIoU(b, t)``, for each layer anew. Then ``L_class``
    is the cross entropy of all answers, weighed, where no object is to be found, by ``no_object``, over the sum of the
    weights; ``L_1 = sum |b - t|_1 / n`` and ``L_GIoU = sum (1 - GIoU(b, t)) / n`` over the ``n`` objects of the batch.

    The model answers by name, ``classes`` ``(batch, queries, classes + 1)`` and ``boxes`` ``(batch, queries, 4)`` as
    centre, width and height from 0 to 1; sets of earlier layers have names with a number, ``classes_0`` and so on.
    Targets are ``classes`` ``(batch, most)``, ``NO_OBJECT`` where a picture has fewer objects than others, and
    ``boxes`` ``(batch, most, 4)``.

    Counted are ``loss`` and ``accuracy`` (of the classes of the answers that were matched), ``l1`` and ``giou`` for
    each object, of the last set.

    Args:
        class_weight: of the class, in the loss and when matching.
        l1_weight: of the distance of the boxes.
        giou_weight: of their generalised overlap.
        no_object: weight of the answers that found nothing.

    Raises:
        UserError: targets do not fit the answers, a class is out of range, a box is not inside its picture, or a
            picture has more objects than there are answers.

    Source: End-to-End Object Detection with Transformers, arXiv 2005.12872.
    """

    def __init__(
        self,
        *,
        class_weight: float = 1.0,
        l1_weight: float = 5.0,
        giou_weight: float = 2.0,
        no_object: float = 0.1,
    ) -> None:
        super().__init__()
        self.class_weight, self.l1_weight, self.giou_weight = class_weight, l1_weight, giou_weight
        self.no_object = no_object

    def forward(self, model: nn.Module, batch: Batch, progress: float) -> Outcome:
        answers: Mapping[str, Tensor] = call(model, batch.inputs)
        classes, boxes = _targets(batch.targets, answers)
        # The last set comes last: it is the one that is counted.
        names = sorted((name.removeprefix("classes") for name in answers if name.startswith("classes")), reverse=True)
        loss = answers["classes"].new_zeros(())
        for name in names:
            scores, placed = answers[f"classes{name}"], answers[f"boxes{name}"]
            found = matched(self.costs(scores, placed, classes, boxes), classes)
            by_class, l1, giou = self._losses(scores, placed, found, classes, boxes)
            loss = loss + self.class_weight * by_class + self.l1_weight * l1 + self.giou_weight * giou
        sample, answer, target = found
        right = (scores[sample, answer, :-1].argmax(-1) == classes[sample, target]).sum()
        count, objects = len(classes), len(sample)
        return Outcome(
            loss,
            sums={
                "loss": loss.detach() * count,
                "accuracy": right,
                "l1": l1.detach() * objects,
                "giou": (1 - giou.detach()) * objects,
            },
            counts={"loss": count, "accuracy": objects, "l1": objects, "giou": objects},
        )

    @torch.no_grad()
    def costs(
        self,
        scores: Float[Tensor, "batch queries classes_and_none"],
        placed: Float[Tensor, "batch queries 4"],
        classes: Int[Tensor, "batch most"],
        boxes: Float[Tensor, "batch most 4"],
    ) -> Float[Tensor, "batch queries most"]:
        """What it costs to match each answer with each object; of rows without an object the costs mean nothing."""
        wanted = classes.clamp(min=0)[:, None].expand(-1, scores.shape[1], -1)
        by_class = scores.float().softmax(-1).gather(2, wanted)
        placed, boxes = placed.float()[:, :, None], boxes.float()[:, None]
        l1 = (placed - boxes).abs().sum(-1)
        giou = generalised_overlaps(to_corners(placed), to_corners(boxes))
        return self.l1_weight * l1 - self.class_weight * by_class - self.giou_weight * giou

    def _losses(
        self, scores: Tensor, placed: Tensor, found: Matches, classes: Tensor, boxes: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Of the classes of all answers, and of distance and overlap of the boxes that were matched."""
        sample, answer, target = found
        nothing = scores.shape[-1] - 1
        wanted = classes.new_full(scores.shape[:2], nothing)
        wanted[sample, answer] = classes[sample, target]
        weights = torch.where(wanted == nothing, self.no_object, 1.0).to(scores.dtype)
        entropy = F.cross_entropy(scores.flatten(0, 1), wanted.flatten(), reduction="none")
        by_class = (entropy * weights.flatten()).sum() / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)
        own, true = placed[sample, answer], boxes[sample, target].to(placed.dtype)
        objects = max(len(sample), 1)
        giou = generalised_overlaps(to_corners(own), to_corners(true))
        return by_class, (own - true).abs().sum() / objects, (1 - giou).sum() / objects


#: The sample of each match, the number of its answer and that of its object.
Matches: TypeAlias = tuple[Int[Tensor, " matches"], Int[Tensor, " matches"], Int[Tensor, " matches"]]


def matched(costs: Float[Tensor, "batch queries most"], classes: Int[Tensor, "batch most"]) -> Matches:
    """The assignment of least cost of each sample's objects to its answers, one each."""
    from scipy.optimize import linear_sum_assignment

    # What is no number would stop the assignment, and not, as it should, the step: the loss is then no number either.
    table = costs.detach().float().nan_to_num(nan=0.0, posinf=1e9, neginf=-1e9).cpu().numpy()
    there = (classes != NO_OBJECT).cpu().numpy()
    triples = []
    for sample, (own, objects) in enumerate(zip(table, there, strict=True)):
        targets = np.flatnonzero(objects)
        answers, columns = linear_sum_assignment(own[:, targets])
        triples.append(np.stack([np.full(len(answers), sample), answers, targets[columns]]))
    rows = np.concatenate(triples, axis=1) if triples else np.zeros((3, 0), np.int64)
    sample, answer, target = torch.from_numpy(rows.astype(np.int64)).to(costs.device)
    return sample, answer, target


def _targets(
    targets: object, answers: Mapping[str, Tensor]
) -> tuple[Int[Tensor, "batch most"], Float[Tensor, "batch most 4"]]:
    """Classes and boxes, which fit the answers."""
    if not isinstance(targets, Mapping) or not {"classes", "boxes"} <= set(targets):
        raise UserError("Sets of objects have targets by name: a mapping with `classes` and `boxes`.")
    classes, boxes, scores = targets["classes"], targets["boxes"], answers["classes"]
    most, kinds = classes.shape[-1], scores.shape[-1] - 1
    if classes.shape != (scores.shape[0], most) or boxes.shape != (*classes.shape, 4) or classes.is_floating_point():
        raise UserError(
            f"For {scores.shape[0]} pictures, targets are whole numbers `classes` ({scores.shape[0]}, most) and "
            f"`boxes` ({scores.shape[0]}, most, 4); got {classes.dtype} of shape {tuple(classes.shape)} and "
            f"{tuple(boxes.shape)}."
        )
    there = classes != NO_OBJECT
    known = classes[there]
    if known.numel() and not 0 <= int(known.min()) <= int(known.max()) < kinds:
        raise UserError(
            f"There are {kinds} classes, from 0, and objects of classes from {int(known.min())} to "
            f"{int(known.max())}; rows without an object have the class {NO_OBJECT}."
        )
    most_there = max(there.sum(1).tolist(), default=0)
    if most_there > scores.shape[1]:
        raise UserError(
            f"A picture has {most_there} objects, and the model gives {scores.shape[1]} answers; give it more queries."
        )
    check_boxes(boxes[there])
    return classes, boxes
