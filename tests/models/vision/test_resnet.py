"""Residual networks where the common golden test does not reach."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from formwright.models import Model, create_model
from formwright.models.vision.resnet import SMALL_IMAGE_STEM
from formwright.nn.residual import ResidualDownsampling


def small(**changes: Any) -> Model:
    torch.manual_seed(0)
    return create_model("resnet18", **{"dims": (8, 16, 24, 32), "depths": (1, 1, 1, 2), "classes": 3, **changes})


@pytest.mark.parametrize(("name", "dims"), [("resnet18", (64, 128, 256, 512)), ("resnet50", (256, 512, 1024, 2048))])
def test_strides_and_widths_of_the_stages(name: str, dims: tuple[int, ...]) -> None:
    info = create_model(name, image_size=64).feature_info
    assert [(stage.stride, stage.dim) for stage in info] == list(zip((4, 8, 16, 32), dims, strict=True))


def test_the_small_image_stem_keeps_every_pixel() -> None:
    model = small(stem=SMALL_IMAGE_STEM, image_size=32, channels=1)
    assert [stage.stride for stage in model.feature_info] == [1, 2, 4, 8]
    assert model(torch.zeros(2, 1, 28, 28)).shape == (2, 3)


@pytest.mark.parametrize("bottleneck", [False, True])
@pytest.mark.parametrize("zero_init", [False, True])
def test_residual_branches_start_at_zero_if_told_to(bottleneck: bool, zero_init: bool) -> None:
    model = small(bottleneck=bottleneck, zero_init=zero_init).eval()
    parts = [branch.part for branch in model.backbone.stages[3].blocks[0].branches]
    parts += [part.convolutions for part in model.modules() if isinstance(part, ResidualDownsampling)]
    silent: list[bool] = []
    for part in parts:
        part.register_forward_hook(lambda module, inputs, output: silent.append(not output.any()))
    model(torch.randn(2, 3, 64, 64))
    assert silent == [zero_init] * (5 if bottleneck else 4)


def test_the_activation_follows_the_addition() -> None:
    block = small().backbone.stages[3].blocks[0].eval()
    x = torch.randn(2, 4, 4, 32)
    torch.testing.assert_close(block(x)[0], x.relu())  # the residual part is zero at the start


def test_stochastic_depth_reaches_blocks_that_change_the_grid() -> None:
    model = small(drop_path=0.3)
    rates = [part.drop_path.rate for part in model.modules() if isinstance(part, ResidualDownsampling)]
    rates.append(model.specification.stages[3].blocks[0].branches[0].drop_path)
    assert rates == pytest.approx([0.075, 0.15, 0.225, 0.3])
