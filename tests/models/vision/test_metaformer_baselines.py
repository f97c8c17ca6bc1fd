"""MetaFormer baselines beyond the golden figures."""

from __future__ import annotations

import pytest
import torch

from formwright.errors import UserError
from formwright.models import create_model
from formwright.nn.activations import StarReLU

SMALL = {"depths": (1, 1, 1, 1), "dims": (32, 32, 64, 64), "classes": 5, "image_size": 64}


@pytest.mark.parametrize(
    "name", ["identityformer_s12", "randformer_s12", "poolformerv2_s12", "convformer_s18", "caformer_s18"]
)
def test_every_mixer_can_be_trained(name):
    torch.manual_seed(0)
    model = create_model(name, **SMALL)
    x, labels = torch.randn(8, 3, 64, 64), torch.arange(8) % 5
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        loss = torch.nn.functional.cross_entropy(model(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_only_the_last_two_stages_scale_their_residual():
    stages = create_model("convformer_s18", **SMALL).backbone.stages
    scales = [stage.blocks[0].branches[0].residual_scale for stage in stages]
    assert [scale is not None for scale in scales] == [False, False, True, True]
    assert torch.equal(scales[3], torch.ones(64))


def test_star_relu_keeps_standard_normal_values_standard():
    y = StarReLU(0.8944, -0.4472)(torch.randn(1_000_000, generator=torch.Generator().manual_seed(0)))
    assert abs(y.mean().item()) < 0.01
    assert abs(y.var().item() - 1) < 0.01


def test_random_mixing_names_both_numbers_of_tokens():
    model = create_model("randformer_s12", **SMALL)
    with pytest.raises(UserError, match=r"built for 16 tokens and got 30 \(5 x 6\)"):
        model(torch.zeros(1, 3, 80, 96))


def test_other_mixers_take_any_size():
    for name in ("poolformerv2_s12", "caformer_s18"):
        assert create_model(name, **SMALL).eval()(torch.zeros(1, 3, 37, 90)).shape == (1, 5)


def test_options_for_another_number_of_stages_are_refused():
    with pytest.raises(UserError, match="3 depths, 4 dims, 4 mixers"):
        create_model("caformer_s18", depths=(1, 1, 1))
