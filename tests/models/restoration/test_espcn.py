"""ESPCN: its counts, the sub-pixel layer, and any height and width."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from formwright.deployment import OnnxModel, export_onnx
from formwright.errors import UserError
from formwright.measurement.macs import count_macs
from formwright.models import create_model, model_specification
from formwright.nn.pixel_shuffle import (
    paper_order,
    pixel_shuffle,
    sub_pixel_from_transposed,
    transposed_from_sub_pixel,
)


@pytest.mark.parametrize(("scale", "parameters"), [(2, 21_284), (3, 22_729), (4, 24_752)])
def test_the_published_networks_have_their_parameters(scale, parameters):
    model = create_model(f"espcn_x{scale}").eval()
    assert model.parameter_count() == parameters
    assert model(torch.rand(2, 1, 9, 14)).shape == (2, 1, 9 * scale, 14 * scale)


def test_it_multiplies_less_than_on_the_enlarged_picture():
    """The first two layers at a third of the side are nine times as cheap."""
    side, enlarged = 16, 48
    small = count_macs(create_model("espcn_x3"), torch.rand(1, 1, side, side))
    assert small == side**2 * (25 * 64 + 9 * 64 * 32 + 9 * 32 * 9)
    large = count_macs(create_model("espcn_x3", scale=1), torch.rand(1, 1, enlarged, enlarged))
    first_two = side**2 * (25 * 64 + 9 * 64 * 32)
    assert large - enlarged**2 * 9 * 32 == 9 * first_two


def test_the_layer_is_the_periodic_shuffle():
    torch.manual_seed(0)
    x = torch.randn(2, 27, 4, 5)
    shuffled = pixel_shuffle(x, 3)
    for c, i, j in ((0, 0, 1), (2, 1, 0), (1, 2, 2)):
        assert torch.equal(shuffled[:, c, i::3, j::3], x[:, 9 * c + 3 * i + j])
    assert torch.equal(F.pixel_unshuffle(shuffled, 3), x)
    with pytest.raises(UserError, match="multiple of 9"):
        pixel_shuffle(torch.rand(1, 8, 2, 2), 3)


def test_the_papers_order_counts_the_place_first():
    channels, scale = 3, 2
    order = paper_order(channels, scale)
    for i in range(scale):
        for j in range(scale):
            for c in range(channels):
                assert order[channels * scale * i + channels * j + c] == c * scale**2 + i * scale + j
    assert torch.equal(order.argsort()[order], torch.arange(12))


@pytest.mark.parametrize(("kernel", "scale"), [(3, 2), (3, 3), (1, 4), (5, 2)])
def test_it_equals_a_strided_transposed_convolution(kernel, scale):
    torch.manual_seed(0)
    x = torch.randn(2, 6, 7, 5)
    weight = torch.randn(3 * scale**2, 6, kernel, kernel)
    ours = pixel_shuffle(F.conv2d(x, weight, padding=kernel // 2), scale)
    transposed = transposed_from_sub_pixel(weight, scale)
    assert transposed.shape == (6, 3, kernel * scale, kernel * scale)
    theirs = F.conv_transpose2d(x, transposed, stride=scale, padding=scale * (kernel - 1) // 2)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-5)
    assert torch.equal(sub_pixel_from_transposed(transposed, scale), weight)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_the_global_skip_enlarges_as_pillow_does(scale):
    torch.manual_seed(0)
    model = create_model("espcn_x2", scale=scale, skip=True, channels=3)
    x = torch.rand(1, 3, 13, 17)
    size = (17 * scale, 13 * scale)
    expected = [Image.fromarray(plane.numpy()).resize(size, Image.Resampling.BICUBIC) for plane in x[0]]
    inside = slice(2 * scale, -2 * scale)
    ours = model.enlarged(x)[0].numpy()[:, inside, inside]
    assert np.abs(np.stack(expected)[:, inside, inside] - ours).max() < 1e-5


@pytest.mark.parametrize("multiple", [1, 4])
def test_it_exports_with_free_sides(tmp_path, multiple):
    torch.manual_seed(0)
    specification = replace(model_specification("espcn_x2", skip=True, dims=(8, 4), image_size=12), multiple=multiple)
    model = create_model(specification).eval()
    export_onnx(model, tmp_path / "model.onnx", torch.rand(1, 1, 12, 12), free=("height", "width"))
    run = OnnxModel(tmp_path / "model.onnx")
    assert run.input_shape == (None, 1, None, None)
    for height, width in ((5, 9), (13, 12), (1, 30)):
        x = torch.rand(1, 1, height, width)
        with torch.inference_mode():
            expected = model(x).numpy()
        assert expected.shape == (1, 1, 2 * height, 2 * width)
        np.testing.assert_allclose(run(x.numpy()), expected, atol=1e-5)
