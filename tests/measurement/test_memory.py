"""Peak memory of calls that need a known amount."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from torch import nn

from formwright.measurement import memory
from formwright.measurement.memory import peak_memory

linux = pytest.mark.skipif(sys.platform != "linux", reason="the high-water mark is Linux's")
MB = 10**6


def allocate(megabytes: int) -> None:
    np.ones(megabytes * MB // 8)


@linux
@pytest.mark.parametrize("megabytes", [16, 64])
def test_sees_what_a_call_allocates_and_frees(megabytes):
    for _ in range(2):  # the second time the heap could serve it from what the first left behind
        assert peak_memory(lambda: allocate(megabytes)) == pytest.approx(megabytes * MB, rel=0.15)


@linux
def test_counts_the_highest_moment_not_the_sum():
    def one_after_the_other():
        for _ in range(3):
            allocate(32)

    assert peak_memory(one_after_the_other) == pytest.approx(32 * MB, rel=0.15)


@linux
def test_sees_activations_of_a_model():
    model = nn.Sequential(nn.Linear(64, 4096), nn.ReLU())
    x = torch.zeros(2048, 64)
    with torch.inference_mode():
        model(x)
        assert peak_memory(lambda: model(x)) == pytest.approx(2 * 4 * 2048 * 4096, rel=0.15)


def test_none_where_the_system_has_no_high_water_mark(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "missing")
    assert peak_memory(lambda: None) is None
