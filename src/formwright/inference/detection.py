"""From the answers of a detector to objects."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from torch import Tensor

from formwright.metrics.detection import Objects
from formwright.nn.functional.boxes import NO_OBJECT, to_corners


def detections(answers: Mapping[str, Tensor], *, least_score: float = 0.0) -> list[Objects]:
    """What was found in each picture: for each query its best class, and that class's share of the softmax as score.

    Args:
        answers: ``classes`` ``(batch, queries, classes + 1)``, the last of no object, and ``boxes``
            ``(batch, queries, 4)``.
        least_score: objects with a lower score are left out.

    Returns:
        Objects with corners as shares of the picture's sides, the best first.
    """
    scores, classes = answers["classes"].detach().float().softmax(-1)[..., :-1].max(-1)
    corners = to_corners(answers["boxes"].detach().float())
    found = []
    for score, number, box in zip(scores.cpu().numpy(), classes.cpu().numpy(), corners.cpu().numpy(), strict=True):
        order = np.argsort(-score, kind="stable")
        order = order[score[order] >= least_score]
        found.append(Objects(box[order], number[order], score[order]))
    return found


def true_objects(targets: Mapping[str, Tensor]) -> list[Objects]:
    """The objects of each picture from ``classes`` ``(batch, most)`` and ``boxes`` ``(batch, most, 4)`` of a batch."""
    boxes: Float[Tensor, "batch most 4"] = to_corners(targets["boxes"])
    there = targets["classes"] != NO_OBJECT
    return [
        Objects(box[real].cpu().numpy(), number[real].cpu().numpy())
        for box, number, real in zip(boxes, targets["classes"], there, strict=True)
    ]
