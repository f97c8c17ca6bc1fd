"""Folding of whole models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from formwright.compression import fold
from formwright.models import from_pretrained
from formwright.nn.specification import EditSpec
from tests.compression.models import tiny

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@pytest.mark.parametrize(
    "name", ["efficientvit_m0", "efficientvit_m0_distilled", "resnet18", "resnet50", "iformer_small"]
)
def test_a_folded_model_has_no_batch_norm_and_the_same_answers(name: str, tmp_path: Path) -> None:
    model = tiny(name)
    images = torch.randn(2, 3, 64, 64)
    expected = model(images)
    folded = fold(model)
    assert not any(isinstance(module, BATCH_NORMS) for module in folded.modules())
    assert (folded(images) - expected).abs().max() <= 1e-4 * expected.std()
    assert torch.equal(model(images), expected)
    assert folded.specification.edits == (EditSpec("fold"),)

    folded.save_pretrained(tmp_path)
    loaded = from_pretrained(tmp_path)
    assert not any(isinstance(module, BATCH_NORMS) for module in loaded.modules())
    assert torch.equal(loaded(images), folded(images))


def test_a_folded_model_folds_to_itself() -> None:
    folded = fold(tiny("efficientvit_m0"))
    again = fold(folded)
    assert again.specification == folded.specification
