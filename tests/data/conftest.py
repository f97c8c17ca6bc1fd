"""Small folders of pictures, made on the spot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def save_picture(path: Path, value: int, size: tuple[int, int] = (12, 10), mode: str = "RGB") -> Path:
    """A noisy picture that depends on ``value``; ``size`` is (width, height)."""
    noise = np.random.default_rng(value).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise).convert(mode).save(path)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes with ten different colour pictures each."""
    for index in range(20):
        save_picture(tmp_path / "photos" / ("cat" if index % 2 else "dog") / f"{index:02d}.png", index)
    return tmp_path / "photos"
