"""Weights of norms and LayerScale folded into the parts beside them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from formwright.compression import fold
from formwright.models import create_model, from_pretrained
from formwright.nn.frame import Branch

SMALL = {"depths": (1, 1, 1, 1), "dims": (32, 32, 64, 64), "image_size": 64, "classes": 5}


@pytest.mark.parametrize("name", ["poolformer_s12", "convnext_tiny", "caformer_s18", "metaformer_pppa_s12_224"])
@torch.no_grad()
def test_a_folded_model_has_the_same_answers_with_fewer_operations(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = create_model(name, **SMALL).eval()
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.uniform_(0.5, 1.5)
    images = torch.randn(2, 3, 64, 64)
    expected = model(images)
    folded = fold(model)
    torch.testing.assert_close(folded(images), expected, rtol=1e-4, atol=1e-4)
    assert folded.parameter_count() < model.parameter_count()
    branches = [module for module in folded.modules() if isinstance(module, Branch)]
    if name == "convnext_tiny":
        assert all(branch.layer_scale is None for branch in branches)
    folded.save_pretrained(tmp_path)
    torch.testing.assert_close(from_pretrained(tmp_path)(images), folded(images))
