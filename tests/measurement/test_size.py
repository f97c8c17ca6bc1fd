"""Estimated file sizes against files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from formwright.deployment.export import export_onnx
from formwright.deployment.quantize import quantize_onnx
from formwright.measurement.size import model_bytes, weight_bytes


def network(width: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, width, 3, stride=2, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, groups=width, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 1),
        nn.GELU(),
        nn.Flatten(2),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.LayerNorm(2 * width),
        nn.Linear(2 * width, 10),
    )


@pytest.mark.parametrize("width", [24, 160])
def test_estimates_are_close_to_files(width, tmp_path):
    model = network(width)
    export_onnx(model, tmp_path / "float32.onnx", torch.zeros(2, 3, 16, 16))
    noise = np.random.default_rng(0).standard_normal((4, 3, 16, 16)).astype(np.float32)
    quantize_onnx(tmp_path / "float32.onnx", tmp_path / "int8.onnx", noise)
    for precision in ("float32", "int8"):
        size = (tmp_path / f"{precision}.onnx").stat().st_size
        assert model_bytes(model, precision) == pytest.approx(size, rel=0.1, abs=2_000)


def test_shared_weights_count_once():
    linear = nn.Linear(100, 100, bias=False)
    tied = nn.Sequential(linear, nn.Linear(100, 100, bias=False))
    tied[1].weight = linear.weight
    assert weight_bytes(tied) == 40_000
    assert 40_000 <= model_bytes(tied) < 41_000


def test_counts_as_held():
    assert weight_bytes(nn.Linear(8, 8, dtype=torch.bfloat16)) == 2 * 72
    assert weight_bytes(nn.BatchNorm2d(8)) == 4 * 32 + 8
