"""Overlapping windows: as MONAI blends them, equal to the whole where places do not see each other, in any number of
axes."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from formwright.catalog.reference import sample
from formwright.errors import UserError
from formwright.inference.tiling import constant_weights, gaussian_weights, tiled
from formwright.models import create_model

WEIGHTS = {"constant": constant_weights, "gaussian": gaussian_weights}
FIGURES = json.loads((Path(__file__).parent / "tiling.json").read_text())


def values(*shape: int, seed: int = 0) -> Tensor:
    return torch.sin(torch.arange(math.prod(shape), dtype=torch.float64) * 0.37 + seed).view(shape)


class Neighbours(nn.Module):
    """Something that sees the whole window, and answers ``scale`` times as fine."""

    def __init__(self, scale: int = 1) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, input: Tensor) -> Tensor:
        axes = tuple(range(2, input.ndim))
        y = torch.tanh(input) + input.mean(axes, keepdim=True) + 0.1 * input.roll(1, dims=axes[-1])
        for axis in axes:
            y = y.repeat_interleave(self.scale, dim=axis)
        return y


class Pointwise(nn.Module):
    """Answers by name, at two scales; no place sees another."""

    def forward(self, input: Tensor) -> dict[str, Tensor]:
        fine = input
        for axis in range(2, input.ndim):
            fine = fine.repeat_interleave(2, dim=axis)
        return {"same": input.square() + 1, "finer": torch.cat([fine, -fine], 1)}


@pytest.mark.parametrize("case", FIGURES["cases"], ids=lambda case: "x".join(map(str, case["shape"])))
def test_equal_to_monai(case: dict[str, Any]) -> None:
    x = values(*case["shape"])
    answer = tiled(
        Neighbours(case["scale"]),
        x,
        case["window"],
        overlap=case["overlap"],
        weights=WEIGHTS[case["weights"]],
        batch_size=3,
    )
    assert isinstance(answer, Tensor)
    assert list(answer.shape) == case["output"]
    np.testing.assert_allclose(sample(answer.numpy()), case["values"], rtol=1e-6, atol=1e-6)


def windows_around(size: Sequence[int], window: Sequence[int], overlap: float) -> list[tuple[int, ...]]:
    starts = []
    for side, width in zip(size, window, strict=True):
        own, step = [], max(1, int(width * (1 - overlap)))
        for start in range(0, side, step):
            own.append(min(start, side - width))
            if start + width >= side:
                break
        starts.append(own)
    return list(itertools.product(*starts))


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize(
    ("size", "window", "overlap"), [((23,), (8,), 0.5), ((9, 14), (4, 6), 0.25), ((5, 7, 6), (3, 4, 6), 0.6)]
)
def test_one_window_at_a_time(weights: str, size: tuple[int, ...], window: tuple[int, ...], overlap: float) -> None:
    x, model = values(2, 3, *size), Neighbours()
    weight = WEIGHTS[weights](window).double()
    total, counts = torch.zeros_like(x), torch.zeros(size, dtype=torch.float64)
    for corner in windows_around(size, window, overlap):
        inside = (..., *(slice(start, start + side) for start, side in zip(corner, window, strict=True)))
        total[inside] += weight * model(x[inside])
        counts[inside] += weight
    answer = tiled(model, x, window, overlap=overlap, weights=WEIGHTS[weights])
    torch.testing.assert_close(answer, total / counts)


@pytest.mark.parametrize("size", [(19,), (13, 8), (7, 9, 5)])
@pytest.mark.parametrize("side", [4, 6, 32])
def test_what_sees_one_place_is_the_whole(size: tuple[int, ...], side: int) -> None:
    x, model = values(2, 2, *size), Pointwise()
    whole = model(x)
    for weights in WEIGHTS.values():
        pieces = tiled(model, x, [side] * len(size), weights=weights)
        assert isinstance(pieces, dict)
        for name, expected in whole.items():
            torch.testing.assert_close(pieces[name], expected, rtol=1e-6, atol=1e-6)


def test_a_network_answers_for_a_volume_larger_than_its_windows() -> None:
    torch.manual_seed(0)
    model = create_model("unet_3d_small", dims=(4, 8), depths=(1, 1), classes=3, image_size=16).eval()
    x = values(1, 1, 20, 16, 24).float()
    done = []
    scores = tiled(model, x, (16, 16, 16), weights=gaussian_weights, on_windows=lambda *count: done.append(count))
    assert isinstance(scores, Tensor)
    assert scores.shape == (1, 3, 20, 16, 24)
    assert done == [(4, 4)]
    torch.testing.assert_close(tiled(model, x[..., :16, :, :16], (16, 16, 16)), model(x[..., :16, :, :16]))
    assert not scores.requires_grad


def test_progress_goes_by_batches_of_windows() -> None:
    done: list[tuple[int, int]] = []
    tiled(Neighbours(), values(2, 1, 10), (4,), overlap=0.5, batch_size=3, on_windows=lambda *count: done.append(count))
    assert done == [(3, 8), (6, 8), (8, 8)]


def test_no_samples_give_none() -> None:
    assert tiled(Neighbours(2), values(0, 3, 9, 9), (4, 4)).shape == (0, 3, 18, 18)  # type: ignore[union-attr]
    assert tiled(Pointwise(), values(0, 3, 2), (4,))["finer"].shape == (0, 6, 4)  # type: ignore[call-overload]


def test_weights_of_a_window() -> None:
    weights = gaussian_weights((9, 5))
    assert weights.shape == (9, 5)
    assert weights[4, 2] == 1
    torch.testing.assert_close(weights, weights.flip(0, 1))
    assert weights.min() == pytest.approx(1e-3)
    assert weights[5, 2] == pytest.approx(math.exp(-1 / (2 * (9 / 8) ** 2)))


@pytest.mark.parametrize(
    ("window", "options", "message"),
    [
        ((4,), {}, r"window of \(4,\) for an input of 8 x 9"),
        ((4, 0), {}, r"side of at least 1.*\(4, 0\)"),
        ((4, 4), {"overlap": 1.0}, r"overlap=1\.0"),
        ((4, 4), {"overlap": -0.1}, r"overlap=-0\.1"),
        ((4, 4), {"batch_size": 0}, "batch_size=0"),
    ],
)
def test_windows_that_cannot_be_are_said(window: tuple[int, ...], options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tiled(Neighbours(), values(1, 1, 8, 9), window, **options)


def test_answers_that_cannot_be_put_together_are_said() -> None:
    with pytest.raises(UserError, match=r"answer 'output' to windows of 4 x 4 has the shape \(4, 3\)"):
        tiled(nn.Sequential(nn.Flatten(), nn.LazyLinear(3)).double(), values(1, 1, 8, 8), (4, 4))
    with pytest.raises(UserError, match=r"has the shape \(4, 1, 2, 2\)"):
        tiled(nn.AvgPool2d(2), values(1, 1, 8, 8), (4, 4))
