"""How pictures were prepared for the weights of a model."""

from __future__ import annotations

from dataclasses import dataclass

from formwright.resizing import LARGEST_BOX, Resizing


@dataclass(frozen=True)
class Preprocessing:
    """How pictures become inputs: ``(x - mean) / std`` of a resized picture, ``x`` from 0 to 1.

    Attributes:
        mean: one per channel.
        std: deviation, one per channel.
        size: height and width in pixels.
        resizing: how pictures are brought to this size.

    Raises:
        ValueError: there are not as many means as deviations, a deviation is not above 0, or a side is below 1.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int, int]
    resizing: Resizing = LARGEST_BOX

    def __post_init__(self) -> None:
        if not self.mean or len(self.mean) != len(self.std):
            raise ValueError(f"{len(self.mean)} means and {len(self.std)} deviations; as many, and some, are expected")
        if not all(value > 0 for value in self.std):
            raise ValueError(f"deviations of {', '.join(f'{value:g}' for value in self.std)}; above 0 is expected")
        if min(self.size) < 1:
            raise ValueError(f"pictures of {self.size[0]} x {self.size[1]} pixels; at least 1 x 1 is expected")
