"""What candidates need to know of data to be built for it: sizes, classes, and how many samples there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class PictureShape:
    """What a space needs to know of the data."""

    size: tuple[int, int]
    channels: int
    classes: int
    pictures: int

    @property
    def stem_stride(self) -> int:
        side = min(self.size)
        return 1 if side <= 12 else 2 if side <= 48 else 4

    @property
    def stages(self) -> int:
        grid = min(self.size) / self.stem_stride
        count = 1
        while grid / 2 >= 3 and count < 4:
            grid /= 2
            count += 1
        return count


@dataclass(frozen=True)
class TextShape:
    """What a space needs to know of the data: tokens, longest text, classes, training texts."""

    vocabulary: int
    length: int
    padding: int
    classes: int
    texts: int

    @property
    def dropout(self) -> float:
        """The fewer texts, the sooner they are known by heart."""
        return 0.5 if self.texts < 20_000 else 0.3 if self.texts < 200_000 else 0.1

    @property
    def input(self) -> dict[str, Any]:
        return {
            "vocabulary": self.vocabulary,
            "length": self.length,
            "padding": self.padding,
            "classes": self.classes,
        }


@dataclass(frozen=True)
class LanguageShape:
    """What a space needs to know of the data: ids, ids of a window, ids of the training text."""

    vocabulary: int
    length: int
    tokens: int

    @property
    def dropout(self) -> float:
        """The shorter the text, the sooner it is known by heart."""
        return 0.2 if self.tokens < 300_000 else 0.05 if self.tokens < 5_000_000 else 0.0

    @property
    def buckets(self) -> int:
        """Vectors of the n-grams of each length: more for longer texts."""
        return 2**12 if self.tokens < 300_000 else 2**14 if self.tokens < 20_000_000 else 2**16

    @property
    def batch(self) -> int:
        """Windows a step: some 4,000 ids, and fewer of a short text, which then gets more steps."""
        return max(4, min(4096, self.tokens // 64) // self.length)


@dataclass(frozen=True)
class SeriesShape:
    """What a space needs to know of the data: ``windows`` are those to train on."""

    length: int
    variates: int
    covariates: int
    horizon: int
    windows: int


@dataclass(frozen=True)
class LabelledShape:
    """What a space needs to know of series with classes."""

    length: int
    variates: int
    classes: int
    series: int
