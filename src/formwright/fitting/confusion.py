"""Which classes a model takes for which, as the report shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from formwright.fitting.metric import percent
from formwright.fitting.records import FitResult
from formwright.fitting.shown import png

TABLE_CLASSES = 20  # up to so many, the confusion matrix is a table with figures
MATRIX_PIXELS = 1000  # the side of a larger one
LETTER_PIXELS = 10  # the least height of a class that still has its name beside it
MOST_PAIRS = 12


@dataclass(frozen=True)
class Confusion:
    """The confusion matrix and what stands out in it.

    ``picture`` is its heat map where the classes are too many for a table, else empty; a class is ``cell`` pixels high
    there and each ``every``-th has its name beside it. ``pairs`` are true class, predicted class, how often, and the
    share of the true class; ``weakest`` are class, share that is right, and how many pictures it has.
    """

    classes: Sequence[str]
    counts: list[list[int]]
    totals: list[int]
    picture: str
    cell: float
    every: int
    pairs: list[tuple[str, str, int, str]]
    weakest: list[tuple[str, str, int]]


def confusion(result: FitResult) -> Confusion | None:
    """What the test part was taken for, or none if that was not counted."""
    if not result.details.get("confusion"):
        return None
    counts = np.array(result.details["confusion"], np.int64)
    classes = [str(name) for name in result.data["classes"]]
    totals = counts.sum(axis=1)
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_PAIRS]
    pairs = [
        (classes[true], classes[guess], int(wrong[true, guess]), percent(wrong[true, guess] / totals[true]))
        for true, guess in (divmod(int(place), len(classes)) for place in order)
        if wrong[true, guess]
    ]
    recall = np.diag(counts) / np.maximum(totals, 1)
    weakest = [
        (classes[index], percent(float(recall[index])), int(totals[index]))
        for index in np.argsort(recall, kind="stable")[:8]
        if totals[index] and recall[index] < 1
    ]
    cell = min(24.0, MATRIX_PIXELS / len(classes))
    picture = png(_heat_map(counts)) if len(classes) > TABLE_CLASSES else ""
    every = max(1, round(LETTER_PIXELS / cell))
    return Confusion(classes, counts.tolist(), totals.tolist(), picture, cell, every, pairs, weakest)


def _heat_map(counts: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Right answers blue, wrong ones orange; opacity is the root of the share of the row, so that few are seen too."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = np.empty((*counts.shape, 4), np.uint8)
    image[..., :3] = (224, 96, 30)
    image[np.eye(len(counts), dtype=bool), :3] = (47, 118, 210)
    image[..., 3] = np.round(255 * np.sqrt(shares))
    return image
