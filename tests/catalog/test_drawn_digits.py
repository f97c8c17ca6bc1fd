"""The figures that stand beside drawn digits, and that the claim's program runs to its end."""

from __future__ import annotations

import pytest
import torch

from formwright.catalog.claims import dit
from formwright.reporting import SILENT


def test_distances_are_in_grey_levels() -> None:
    pictures = torch.zeros(20, 1, 8, 8)
    pictures[10:, 0, 0, 0] = 0.5
    drawn = dit._Digits(pictures, torch.arange(10).repeat(2))
    assert drawn.spread() == pytest.approx(4)  # two of each class, 0.5 of 2 apart, and 16 levels in all
    assert drawn.nearest(torch.zeros(3, 1, 8, 8) + 0.25) == pytest.approx(16)  # 64 pixels, 2 levels each
    assert drawn.nearest(pictures) == 0


@pytest.mark.parametrize("kind", ["diffusion", "flow"])
def test_the_program_runs(kind: dit.Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SEEDS": (0,), "STEPS": 2, "CLASSIFIER_STEPS": 2, "EACH": 2}.items():
        monkeypatch.setattr(dit, name, value)
    dit._classifier.cache_clear()
    result = dit._recognised_as_asked(kind, SILENT)
    dit._classifier.cache_clear()
    assert not result.holds  # after two steps nothing is learned
    assert "real digits 16.5" in result.measured
    assert "2 digits of each class" in result.details
