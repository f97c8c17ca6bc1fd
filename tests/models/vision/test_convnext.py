"""ConvNeXt beyond the golden figures: its switches, its start, its refusals."""

from __future__ import annotations

import pytest
import torch

from formwright.errors import UserError
from formwright.models import create_model

SMALL = {"depths": (1, 1, 2, 1), "dims": (8, 16, 24, 32), "classes": 5, "image_size": 64}


@pytest.mark.parametrize("switch", [{"norm": "batch_norm"}, {"kernel": 3}, {"activation": "relu"}])
def test_the_switches_of_the_road_map_change_the_function(switch):
    x = torch.randn(2, 3, 64, 64)
    outputs = []
    for options in ({}, switch):
        torch.manual_seed(0)
        outputs.append(create_model("convnext_tiny", **SMALL, layer_scale=1.0, **options).eval()(x))
    assert outputs[0].shape == outputs[1].shape == (2, 5)
    assert not torch.allclose(*outputs)


def test_at_the_start_the_blocks_change_almost_nothing():
    model = create_model("convnext_tiny", **SMALL).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        before = model(x)
        for stage in model.backbone.stages:
            stage.blocks = torch.nn.ModuleList()
        assert torch.allclose(model(x), before, atol=1e-4)


def test_bad_options_and_small_images_are_refused():
    with pytest.raises(UserError, match="3 depths, 4 dims"):
        create_model("convnext_tiny", depths=(1, 1, 1))
    model = create_model("convnext_tiny", **SMALL)
    with pytest.raises(UserError, match="sides of at least 32"):
        model(torch.zeros(1, 3, 31, 64))
    assert model(torch.zeros(1, 3, 33, 47)).shape == (1, 5)
