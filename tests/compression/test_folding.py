"""Folding of whole models."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from formwright.compression import fold
from formwright.models import Model, create_model, from_pretrained
from formwright.nn.specification import EditSpec

SMALL_IFORMER = {
    "depths": (1, 1, 1, 1),
    "dims": (8, 16, 24, 32),
    "heads": (2, 2, 2, 2),
    "attention_heads": (1,) * 4,
    "image_size": 64,
}
SMALL_EFFICIENTVIT = {"dims": (16, 24, 32), "heads": (2, 2, 2), "depths": (1, 1, 1), "image_size": 64}
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@torch.no_grad()
def randomised(name: str, **options: Any) -> Model:
    """A model in which no norm is left at one and zero."""
    torch.manual_seed(0)
    model = create_model(name, classes=5, **options)
    for key, tensor in model.state_dict().items():
        if key.endswith("running_mean") or (key.endswith("bias") and tensor.ndim == 1):
            tensor.normal_(0, 0.1)
        elif key.endswith("running_var") or (key.endswith("weight") and tensor.ndim == 1):
            tensor.uniform_(0.5, 1.5)
        elif key.endswith("weight"):
            tensor.normal_(0, 1 / math.sqrt(max(1, math.prod(tensor.shape[1:]))))
    return model.eval()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("efficientvit_m0", SMALL_EFFICIENTVIT),
        ("efficientvit_m0_distilled", SMALL_EFFICIENTVIT),
        ("resnet18", {"dims": (8, 16, 24, 32)}),
        ("resnet50", {"dims": (16, 32, 64, 96), "depths": (2, 1, 1, 1)}),
        ("iformer_small", SMALL_IFORMER),
    ],
)
def test_a_folded_model_has_no_batch_norm_and_the_same_answers(
    name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    model = randomised(name, **options)
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
    folded = fold(randomised("efficientvit_m0", **SMALL_EFFICIENTVIT))
    again = fold(folded)
    assert again.specification == folded.specification
