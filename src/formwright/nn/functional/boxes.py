"""Boxes in pictures: their two forms, and how far two of them overlap.

A box is ``(x, y, width, height)`` of its *centre*, or ``(left, top, right, bottom)`` of its *corners*; both
count to the right and down, in pixels or as shares of the picture's sides.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from formwright.errors import UserError

#: The class that stands where a picture has fewer objects than the row of a batch has room for.
NO_OBJECT = -100
#: How far a box that was rounded may reach out of its picture, as a share of a side.
_ROUNDING = 1e-4


def to_corners(boxes: Float[Tensor, "*boxes 4"]) -> Float[Tensor, "*boxes 4"]:
    """From centre, width and height to left, top, right and bottom."""
    centre, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat([centre - size / 2, centre + size / 2], dim=-1)


def to_centres(boxes: Float[Tensor, "*boxes 4"]) -> Float[Tensor, "*boxes 4"]:
    """From left, top, right and bottom to centre, width and height."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def areas(boxes: Float[Tensor, "*boxes 4"]) -> Float[Tensor, " *boxes"]:
    """``(right - left) (bottom - top)`` of corners; nothing where a box is turned inside out."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


def overlaps(
    first: Float[Tensor, "*boxes 4"], second: Float[Tensor, "*boxes 4"]
) -> tuple[Float[Tensor, " *boxes"], Float[Tensor, " *boxes"]]:
    """``IoU = |A ∩ B| / |A ∪ B|`` of boxes with corners, one by one, and ``|A ∪ B|``; shapes broadcast.

    Two boxes without area have an overlap of 0.
    """
    low = torch.maximum(first[..., :2], second[..., :2])
    high = torch.minimum(first[..., 2:], second[..., 2:])
    both = (high - low).clamp(min=0).prod(-1)
    either = areas(first) + areas(second) - both
    return both / either.clamp(min=torch.finfo(either.dtype).tiny), either


def generalised_overlaps(
    first: Float[Tensor, "*boxes 4"], second: Float[Tensor, "*boxes 4"]
) -> Float[Tensor, " *boxes"]:
    """``GIoU = IoU - |C \\ (A ∪ B)| / |C|``, ``C`` the smallest box around both; from -1, far apart, to 1, equal.

    Boxes have corners; shapes broadcast.

    Source: Generalized Intersection over Union, arXiv 1902.09630.
    """
    iou, either = overlaps(first, second)
    low = torch.minimum(first[..., :2], second[..., :2])
    high = torch.maximum(first[..., 2:], second[..., 2:])
    around = (high - low).clamp(min=0).prod(-1)
    return iou - (around - either) / around.clamp(min=torch.finfo(around.dtype).tiny)


def check_boxes(boxes: Float[Tensor, "boxes 4"]) -> None:
    """Refuse boxes (centres, as shares of the picture) that are empty or not inside their picture.

    Raises:
        UserError: names the first such box.
    """
    corners = to_corners(boxes)
    inside = (corners >= -_ROUNDING).all(-1) & (corners <= 1 + _ROUNDING).all(-1) & (boxes[:, 2:] > 0).all(-1)
    wrong = (~inside).nonzero()
    if len(wrong):
        box = ", ".join(f"{value:.4g}" for value in boxes[wrong[0, 0]].tolist())
        raise UserError(
            f"The box ({box}) does not lie inside its picture: expected are the centre, width and height as shares of "
            "the picture's sides, from 0 to 1, with a width and a height above 0; clip it or leave it out."
        )
