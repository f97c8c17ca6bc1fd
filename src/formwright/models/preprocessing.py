"""How pictures were prepared for the weights of a model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Preprocessing:
    """How pictures become inputs: ``(x - mean) / std``, ``x`` from 0 to 1, of the middle of a resized picture.

    Attributes:
        mean: one per channel.
        std: deviation, one per channel.
        size: height and width in pixels, after cutting.
        interpolation: name of the filter that resizes: ``bilinear``, ``bicubic`` ...
        crop: the share of the resized picture's sides that is kept.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int, int]
    interpolation: str = "bicubic"
    crop: float = 1.0
