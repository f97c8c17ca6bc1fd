"""How a poor picture is made of a clean one: blur, bicubic reduction, noise and JPEG, in this order."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from formwright.errors import UserError

#: What may be named, what its number means, and the least and the largest.
KINDS = {
    "blur": ("the deviation of a Gaussian in pixels", 0.1, 20.0),
    "noise": ("the deviation of Gaussian noise in steps of 255", 0.1, 200.0),
    "jpeg": ("the quality of a JPEG", 1.0, 100.0),
}


@dataclass(frozen=True)
class Degradation:
    """``low = jpeg(reduce(blur(high)) + noise)``; what is none is left out.

    Attributes:
        scale: how many times as high and wide the clean picture is; 1 keeps the size.
        blur: deviation of a Gaussian in pixels of the clean picture.
        noise: deviation of normal noise, in steps of 255.
        jpeg: quality of a JPEG, 1 to 100.
    """

    scale: int = 1
    blur: float | None = None
    noise: float | None = None
    jpeg: float | None = None

    @classmethod
    def parse(cls, text: str, scale: int) -> Self:
        """``"blur=1.5,noise=10,jpeg=40"``, any of them; ``bicubic`` stands for the reduction alone.

        Raises:
            UserError: something else is named, or a number is missing or out of range.
        """
        found: dict[str, float] = {}
        for piece in filter(None, (piece.strip() for piece in text.split(","))):
            name, _, value = piece.partition("=")
            if piece == "bicubic":
                continue
            if name not in KINDS:
                raise UserError(
                    f"Pictures can be degraded by bicubic, {', '.join(f'{known}=NUMBER' for known in KINDS)} "
                    f"(--degradation), not by {piece!r}."
                )
            meaning, least, most = KINDS[name]
            try:
                number = float(value)
            except ValueError:
                number = float("nan")
            if not least <= number <= most:
                raise UserError(f"{name}={value} needs a number from {least:g} to {most:g}, {meaning} (--degradation).")
            found[name] = number
        if scale == 1 and not found:
            raise UserError(
                "Nothing is to be restored at --scale 1; name a --degradation such as noise=25, or a scale."
            )
        return cls(scale, **found)

    def __str__(self) -> str:
        named = [f"bicubic x{self.scale}"] if self.scale > 1 else []
        return ", ".join([*named, *(f"{name} {getattr(self, name):g}" for name in KINDS if getattr(self, name))])

    def apply(self, clean: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
        """The poor picture of a clean one, ``(height, width, channels)``, whose sides the scale divides."""
        height, width, channels = clean.shape
        image = Image.fromarray(clean[..., 0] if channels == 1 else clean)
        if self.blur is not None:
            image = image.filter(ImageFilter.GaussianBlur(self.blur))
        image = image.resize((width // self.scale, height // self.scale), Image.Resampling.BICUBIC)
        if self.noise is not None:
            values = np.asarray(image, np.float64)
            values = values + np.random.default_rng(seed).normal(0, self.noise, values.shape)
            image = Image.fromarray(np.clip(np.round(values), 0, 255).astype(np.uint8))
        if self.jpeg is not None:
            file = io.BytesIO()
            image.save(file, "JPEG", quality=round(self.jpeg))
            image = Image.open(file)
        return np.asarray(image, np.uint8).reshape(height // self.scale, width // self.scale, channels)


def enlarge(low: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """A picture ``(height, width, channels)`` enlarged bicubically, which is what models are compared with."""
    height, width, channels = low.shape
    image = Image.fromarray(low[..., 0] if channels == 1 else low)
    large = image.resize((width * scale, height * scale), Image.Resampling.BICUBIC)
    return np.asarray(large, np.uint8).reshape(height * scale, width * scale, channels)
