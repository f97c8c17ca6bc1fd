"""Swin Transformer: windows fitted to the image, and images that the authors refuse."""

from __future__ import annotations

import pytest
import torch

from formwright.errors import UserError
from formwright.models import create_model, model_specification

TINY = {"depths": (2, 2), "dims": (16, 32), "heads": (2, 4), "classes": 10, "window": 4}


def mixers(model):
    return [[block.branches[0].part for block in stage.blocks] for stage in model.backbone.stages]


def test_every_second_block_has_shifted_windows():
    first, second = mixers(create_model("swin_tiny_patch4_window7_224", **TINY, image_size=64))
    assert [(m.window, m.shift) for m in first] == [(4, 0), (4, 2)]
    assert [(m.window, m.shift) for m in second] == [(4, 0), (4, 2)]


def test_small_maps_have_one_window_of_their_size():
    first, second = mixers(create_model("swin_tiny_patch4_window7_224", **TINY, image_size=24))
    assert [(m.window, m.shift) for m in first] == [(4, 0), (4, 2)]
    assert [(m.window, m.shift) for m in second] == [(3, 0), (3, 0)]


@pytest.mark.parametrize("size", [(28, 28), (61, 44), (100, 72)])
def test_images_whose_grids_no_window_divides(size):
    model = create_model("swin_tiny_patch4_window7_224", **TINY, image_size=64).eval()
    maps = model.features(torch.randn(2, 3, *size))
    height, width = size[0] // 4, size[1] // 4
    assert [tuple(tokens.shape[1:3]) for tokens in maps] == [(height, width), ((height + 1) // 2, (width + 1) // 2)]
    assert maps[-1].isfinite().all()


def test_stochastic_depth_is_the_published_one():
    for name, rate in (("swin_tiny_patch4_window7_224", 0.2), ("swin_base_patch4_window12_384", 0.5)):
        last = model_specification(name).stages[-1].blocks[-1].branches[-1]
        assert last.drop_path == pytest.approx(rate)


def test_bad_options_are_named():
    with pytest.raises(UserError, match="One entry a stage"):
        create_model("swin_tiny_patch4_window7_224", depths=(2, 2))
    with pytest.raises(UserError, match="32 channels cannot be split over 5 heads"):
        create_model("swin_tiny_patch4_window7_224", **{**TINY, "heads": (2, 5)})
