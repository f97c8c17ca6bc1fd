"""iFormer beyond the golden figures."""

from __future__ import annotations

import pytest
import torch

from formwright.errors import UserError
from formwright.models import create_model, list_models, model_specification

SMALL = {
    "depths": (1, 1, 2, 1),
    "dims": (12, 24, 32, 48),
    "heads": (3, 6, 8, 12),
    "attention_heads": (1, 3, 5, 7, 11),
    "classes": 5,
    "image_size": 64,
}


@pytest.mark.parametrize("name", list_models("iformer_*"))
def test_the_share_of_attention_grows_with_depth(name):
    shares = []
    for stage in model_specification(name).stages:
        for block in stage.blocks:
            mixer = block.branches[0].part.options
            shares.append(mixer["attention_heads"] / mixer["heads"])
    assert shares == sorted(shares)
    assert shares[0] == pytest.approx(1 / 3)
    assert shares[-1] > 0.9


@pytest.mark.parametrize("size", [(64, 64), (96, 64), (61, 75), (32, 224)])
def test_any_size_works_square_or_not(size):
    model = create_model("iformer_small", **SMALL).eval()
    assert model(torch.randn(2, 3, *size)).shape == (2, 5)


def test_attention_heads_are_needed_for_every_block():
    with pytest.raises(UserError, match="attention_heads: 5, got 4"):
        create_model("iformer_small", **{**SMALL, "attention_heads": (1, 3, 5, 7)})
