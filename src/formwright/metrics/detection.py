"""How well objects were found: COCO's mean average precision of boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from formwright.errors import UserError

Floats = NDArray[np.floating[Any]]
Whole = NDArray[np.integer[Any]]

#: Overlaps from which on a box counts as found, and the recalls at which precision is read.
THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
#: How many boxes of a class count in a picture.
MOST_BOXES = 100


class Objects(NamedTuple):
    """The objects of one picture, true or found.

    Attributes:
        boxes: left, top, right and bottom ``(n, 4)``, in any unit.
        classes: the class of each ``(n,)``.
        scores: how sure whoever found them is ``(n,)``; nothing for true ones.
    """

    boxes: Floats
    classes: Whole
    scores: Floats | None = None


@dataclass(frozen=True)
class DetectionScores:
    """``mean_average_precision`` over all overlaps, ``map_50`` and ``map_75`` at one of 0.5 and 0.75, all from 0 to 1.

    They are the means over the classes that there are objects of; ``of_classes`` holds the first for each class, and
    nothing where a class has no object.
    """

    mean_average_precision: float
    map_50: float
    map_75: float
    of_classes: list[float | None]

    def to_dict(self) -> dict[str, Any]:
        """The scores as plain data, fit for JSON."""
        return asdict(self)


def detection_scores(found: Sequence[Objects], truth: Sequence[Objects], classes: int) -> DetectionScores:
    """Score what was ``found`` in each picture against its true objects.

    In the order of their scores, boxes of a class take the free true box of that class that they overlap most, if by
    at least ``t``; precision over recall is made monotonous, read at 101 recalls and averaged, and that again over
    ``t = 0.5, 0.55, ..., 0.95`` and over the classes.

    Args:
        found: the objects found in each picture, with scores; of each class, the 100 best count.
        truth: the true objects of the same pictures.
        classes: how many classes there are.

    Raises:
        UserError: there are more pictures of one than of the other, shapes do not fit, a class is out of range, scores
            are missing, or no picture has any object.

    Source: the evaluation of Microsoft COCO, arXiv 1405.0312, as in its authors' code; no objects are crowds.
    """
    if len(found) != len(truth):
        raise UserError(f"Objects were found in {len(found)} pictures, and there are {len(truth)}; give all of them.")
    for objects in (*found, *truth):
        _check(objects, classes)
    if any(objects.scores is None for objects in found):
        raise UserError("Objects that were found have scores; give one for each.")
    if not sum(len(objects.classes) for objects in truth):
        raise UserError("No picture has any object, so there is nothing to find; give pictures with objects.")
    precisions = [_of_class(found, truth, number) for number in range(classes)]
    known = np.array([each for each in precisions if each is not None])
    return DetectionScores(
        mean_average_precision=float(known.mean()),
        map_50=float(known[:, 0].mean()),
        map_75=float(known[:, 5].mean()),
        of_classes=[None if each is None else float(each.mean()) for each in precisions],
    )


def _check(objects: Objects, classes: int) -> None:
    count = len(objects.classes)
    scores = objects.scores
    if objects.boxes.shape != (count, 4) or (scores is not None and scores.shape != (count,)):
        raise UserError(
            f"{count} objects have boxes ({count}, 4) and scores ({count},); got boxes {objects.boxes.shape}"
            f"{'' if scores is None else f' and scores {scores.shape}'}."
        )
    if count and not 0 <= objects.classes.min() <= objects.classes.max() < classes:
        raise UserError(
            f"There are {classes} classes, from 0, and objects of classes from {objects.classes.min()} to "
            f"{objects.classes.max()}."
        )


def _of_class(found: Sequence[Objects], truth: Sequence[Objects], number: int) -> Floats | None:
    """Average precision at each threshold; nothing where there are no objects of the class."""
    scores, hits, count = [], [], 0
    for answers, objects in zip(found, truth, strict=True):
        mine = answers.classes == number
        true = np.asarray(objects.boxes, np.float64)[objects.classes == number]
        assert answers.scores is not None
        best = np.argsort(-answers.scores[mine], kind="mergesort")[:MOST_BOXES]
        scores.append(answers.scores[mine][best])
        hits.append(_hits(np.asarray(answers.boxes, np.float64)[mine][best], true))
        count += len(true)
    if not count:
        return None
    order = np.argsort(-np.concatenate(scores), kind="mergesort")
    right = np.concatenate(hits, axis=1)[:, order]
    return np.array([_average_precision(each, count) for each in right])


def _hits(boxes: Floats, true: Floats) -> NDArray[np.bool_]:
    """Whether each box, in its order, takes a true one: ``(thresholds, boxes)``."""
    hits = np.zeros((len(THRESHOLDS), len(boxes)), np.bool_)
    if not len(true):
        return hits
    overlap = box_overlaps(boxes, true)
    for index, threshold in enumerate(THRESHOLDS):
        taken = np.zeros(len(true), np.bool_)
        for box, row in enumerate(overlap):
            free = np.where(taken, -1.0, row)
            # Of equal overlaps the last one is taken, as COCO's loop does.
            match = len(free) - 1 - int(free[::-1].argmax())
            if free[match] >= min(threshold, 1 - 1e-10):
                taken[match] = hits[index, box] = True
    return hits


def box_overlaps(first: Floats, second: Floats) -> Floats:
    """Intersection over union of each of ``first (n, 4)`` and each of ``second (m, 4)``, corners: ``(n, m)``."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    both = np.clip(high - low, 0, None).prod(-1)
    sizes = [np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(-1) for boxes in (first, second)]
    return both / np.maximum(sizes[0][:, None] + sizes[1][None] - both, np.finfo(np.float64).tiny)


def _average_precision(right: NDArray[np.bool_], count: int) -> float:
    """The mean over 101 recalls of the best precision at that recall or a higher one."""
    recall = right.cumsum() / count
    precision = right.cumsum() / np.arange(1, len(right) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, RECALLS, side="left")
    return float(np.append(best, 0.0)[np.minimum(places, len(best))].mean())
