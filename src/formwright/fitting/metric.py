"""The one figure by which a task compares candidates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


def percent(share: float) -> str:
    """``0.8412`` as ``84.1 %``; more digits where one would round an error away."""
    digits = 1
    while digits < 4 and share < 1 and round(100 * share, digits) == 100:
        digits += 1
    return f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%"


@dataclass(frozen=True)
class Metric:
    """A figure of merit, and how it is written.

    The library compares *scores*, of which more is always better: the figure itself, or its negative where less is
    better. What people see is the figure.

    Attributes:
        name: in a sentence, such as ``accuracy`` or ``bits per byte``.
        key: of the figure among a run's test figures; ``<key>_low`` and ``<key>_high`` are its 95 % interval, if known.
        lower_is_better: whether the score is the negative of the figure.
        share: whether it is a share of right answers, written in per cent.
        tolerance: scores closer than this count as equal.
        relative: whether the tolerance is a share of the better figure.
        closeness: the tolerance in words.
    """

    name: str
    key: str
    lower_is_better: bool = False
    share: bool = False
    tolerance: float = 0.01
    relative: bool = False
    closeness: str = "1 % of"

    def score(self, figure: float) -> float:
        return -figure if self.lower_is_better else figure

    def figure(self, score: float) -> float:
        return -score if self.lower_is_better else score

    def text(self, score: float) -> str:
        """The figure, as short as it may be."""
        return percent(score) if self.share else f"{self.figure(score):.4g}"

    def exact(self, score: float) -> str:
        """The figure with another digit, for comparisons."""
        return f"{score:.2%}" if self.share else f"{self.figure(score):.5g}"

    def margin(self, best: float) -> float:
        """By how much a score may lie below ``best`` and count as equal."""
        return self.tolerance * abs(best) if self.relative else self.tolerance

    def tie(self, best: float, samples: int) -> float:
        """By how much a score on so many samples may lie below ``best`` and be no worse as far as one can tell.

        Of a share it is one standard error, ``sqrt(p (1 - p) / n)``, if that is more than the margin.
        """
        spread = math.sqrt(max(best * (1 - best), 0.0) / max(samples, 1)) if self.share else 0.0
        return max(self.margin(best), spread)

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "key": self.key, "lower_is_better": self.lower_is_better}


ACCURACY = Metric("accuracy", "accuracy", share=True, tolerance=0.004, closeness="0.4 points of")
BALANCED_ACCURACY = Metric(
    "balanced accuracy", "balanced_accuracy", share=True, tolerance=0.004, closeness="0.4 points of"
)
