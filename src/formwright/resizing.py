"""How a picture of any size is brought to one size: as numbers alone, for those that decode it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

Filter = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
Rule = Literal["box", "short_side", "both_sides"]


Size = tuple[int, int]


@dataclass(frozen=True)
class Resizing:
    """What of a picture is kept, and the filter (antialiased) that resizes it; sizes are ``(width, height)``.

    - ``box``: the share ``crop`` of the largest centred box with the target's aspect ratio is resized to the target;
      its edges may fall between pixels.
    - ``short_side``: the picture is resized until its shorter side is ``1 / crop`` of the target's, rounded down, and
      the middle is cut out, as timm and most processors of transformers do.
    - ``both_sides``: both sides are resized to ``1 / crop`` of the target's, whatever their ratio was, and the middle
      is cut out, as transformers does for ViT, DeiT and Swin.

    Attributes:
        rule: one of these.
        interpolation: the filter.
        crop: the share of the sides that is kept.
        halves: which place a cut has whose middle lies between two pixels: the ``even`` one, as torchvision has it, or
            the one ``down``, as transformers.

    Raises:
        ValueError: there is no such rule or filter, or the share is not above 0 and at most 1.
    """

    rule: Rule = "box"
    interpolation: Filter = "bicubic"
    crop: float = 1.0
    halves: Literal["even", "down"] = "even"

    def __post_init__(self) -> None:
        for value, known in ((self.rule, Rule), (self.interpolation, Filter), (self.halves, Literal["even", "down"])):
            if value not in get_args(known):
                raise ValueError(f"{value!r} is none of {', '.join(get_args(known))}")
        if not 0 < self.crop <= 1:
            raise ValueError(f"a share of {self.crop:g} is kept; above 0 and at most 1 is expected")

    def __str__(self) -> str:
        part = {
            "box": "the largest box in the middle",
            "short_side": "the middle",
            "both_sides": "the whole, whatever its aspect ratio",
        }[self.rule]
        share = "" if self.crop == 1 else f", {self.crop:.4g} of its sides"
        return f"{part}{share}, {self.interpolation}"

    def least(self, target: Size) -> Size:
        """The sides that a picture has at least before its middle is cut out: those of ``target``, or larger."""
        if self.rule == "box":
            return target
        return math.floor(target[0] / self.crop + 1e-6), math.floor(target[1] / self.crop + 1e-6)

    def whole(self, source: Size, target: Size) -> Size:
        """The size that a picture has before its middle is cut out."""
        width, height = self.least(target)
        if self.rule != "short_side":
            return width, height
        if source[0] * height <= source[1] * width:
            return width, max(int(width * source[1] / source[0]), height)
        return max(int(height * source[0] / source[1]), width), height

    def corner(self, whole: Size, target: Size) -> tuple[int, int]:
        """Left and top of what is cut out of the resized picture."""
        left, top = ((one - other) / 2 for one, other in zip(whole, target, strict=True))
        return (round(left), round(top)) if self.halves == "even" else (math.floor(left), math.floor(top))

    def kept(self, source: Size, target: Size) -> tuple[float, float, float, float]:
        """What of a picture ``target`` shows: left, top, right and bottom in its pixels, or between them."""
        if self.rule == "box":
            scale = self.crop * min(source[0] / target[0], source[1] / target[1])
            width, height = min(scale * target[0], source[0]), min(scale * target[1], source[1])
            left, top = (source[0] - width) / 2, (source[1] - height) / 2
            return left, top, min(left + width, source[0]), min(top + height, source[1])
        whole = self.whole(source, target)
        (left, right), (top, bottom) = (
            (start * sides[0] / sides[1], min((start + sides[2]) * sides[0] / sides[1], sides[0]))
            for start, *sides in zip(self.corner(whole, target), source, whole, target, strict=True)
        )
        return left, top, right, bottom


#: What is done where nothing else is known.
LARGEST_BOX = Resizing()
