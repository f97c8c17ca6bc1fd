"""From scores of every token to labels in a row: the most probable way, whole or while it comes in."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor


def best_path(
    scores: Float[Tensor, "batch tokens classes"], counts: Int[Tensor, " batch"], *, blank: int = 0
) -> list[list[int]]:
    """The labels of the most probable way of each row: equal labels in a row once, blanks not at all.

    Args:
        scores: of every token.
        counts: how many tokens of each row are real.
        blank: the class that stands for no label.

    Source: best path decoding, Connectionist Temporal Classification, ICML 2006.
    """
    return [
        Transcript(blank).extend(row[:count])
        for row, count in zip(scores.argmax(-1).tolist(), counts.tolist(), strict=True)
    ]


class Transcript:
    """The labels of one row of which more and more tokens come in."""

    def __init__(self, blank: int = 0) -> None:
        self.blank, self.labels = blank, list[int]()
        self._latest = blank

    def extend(self, classes: list[int]) -> list[int]:
        """Take the best classes of the next tokens; the labels so far."""
        for label in classes:
            if label not in (self._latest, self.blank):
                self.labels.append(label)
            self._latest = label
        return self.labels
