"""CvT: layouts of its two sources, and what sets it apart."""

from __future__ import annotations

import pytest
import torch

from formwright.errors import UserError
from formwright.measurement.macs import count_macs
from formwright.models import create_model, load_checkpoint, model_specification

TINY = {"depths": (1, 2, 3), "dims": (16, 32, 64), "heads": (1, 2, 4), "classes": 10}


def randomise(model):
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_floating_point():
            tensor.data.copy_(torch.rand_like(tensor) + 0.5 if "var" in name else torch.randn_like(tensor) / 5)


def test_transformers_checkpoints_load_and_give_its_answers():
    transformers = pytest.importorskip("transformers")
    config = transformers.CvtConfig(embed_dim=[16, 32, 64], num_heads=[1, 2, 4], depth=[1, 2, 3], num_labels=10)
    reference = transformers.CvtForImageClassification(config).double().eval()
    randomise(reference)
    model = create_model("cvt-13", activation="gelu", **TINY).double().eval()
    assert load_checkpoint(model, reference.state_dict()) == "transformers"
    images = torch.randn(2, 3, 75, 61, dtype=torch.float64)
    with torch.inference_mode():
        expected = reference(images).logits
        assert torch.allclose(model(images), expected, atol=1e-9)
        load_checkpoint(published := create_model("cvt-13", **TINY).double().eval(), reference.state_dict())
        assert not torch.allclose(published(images), expected, atol=1e-3)


def test_the_class_token_enters_at_the_last_stage():
    specification = model_specification("cvt-13")
    assert [len(stage.entry) for stage in specification.stages] == [0, 0, 1]
    maps = create_model("cvt-13", **TINY).eval().features(torch.randn(1, 3, 64, 48))
    assert [tuple(tokens.shape[1:]) for tokens in maps] == [(16, 12, 16), (8, 6, 32), (4, 3, 64)]


def test_stochastic_depth_grows_inside_the_last_stage():
    stages = model_specification("cvt-13").stages
    rates = [[branch.drop_path for block in stage.blocks for branch in block.branches] for stage in stages]
    assert not any(rates[0] + rates[1])
    assert rates[2][0] == 0
    assert rates[2][-1] == pytest.approx(0.1)
    assert rates[2] == sorted(rates[2])


def test_coarser_keys_cost_a_quarter_of_the_scores():
    with torch.device("meta"):
        model = create_model("cvt-13")
    attention = model.backbone.stages[0].blocks[0].branches[0].part
    side, dim = 56, 64
    tokens, keys = side**2, (side // 2) ** 2
    convolutions = 9 * dim * (tokens + 2 * keys)
    dense = dim**2 * (2 * tokens + 2 * keys)
    macs = count_macs(attention, torch.empty(1, side, side, dim, device="meta"))
    assert macs == convolutions + dense + 2 * dim * tokens * tokens // 4


@pytest.mark.parametrize("method", ["avg", "linear"])
def test_other_projection_methods_have_no_convolutions(method):
    model = create_model("cvt-13", method=method, **TINY).eval()
    assert not any("_projection" in name for name in model.state_dict())
    assert model(torch.randn(1, 3, 64, 64)).isfinite().all()


def test_bad_options_are_named():
    with pytest.raises(UserError, match="32 channels cannot be split over 5 heads"):
        create_model("cvt-13", **{**TINY, "heads": (1, 5, 4)})
    with pytest.raises(UserError, match="no projection method named 'dw'"):
        create_model("cvt-13", method="dw", **TINY)
    with pytest.raises(UserError, match="One entry a stage"):
        create_model("cvt-13", **{**TINY, "depths": (1, 2)})
