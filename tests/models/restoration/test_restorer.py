"""Restorers of any part: pictures of any sides, filled up inside, in PyTorch and in an exported file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from formwright.deployment import OnnxModel, export_onnx
from formwright.errors import UserError
from formwright.models import create_model
from tests.conformance.instances import randomise, windowed_restorer


@pytest.mark.parametrize("multiple", [1, 4])
def test_shifted_windows_are_exported_with_free_sides(tmp_path, multiple):
    """Where a window ends, and who may see whom in it, is computed in the file from the sides of the picture."""
    model = create_model(windowed_restorer(multiple=multiple)).eval()
    randomise(model)
    assert model.get_submodule("backbone.stages.0.blocks.1.branches.0.part").shift == 2
    export_onnx(model, tmp_path / "model.onnx", torch.rand(1, 3, 8, 8), free=("height", "width"))
    run = OnnxModel(tmp_path / "model.onnx")
    for height, width in ((8, 8), (13, 18), (4, 31), (1, 2)):
        x = torch.rand(1, 3, height, width)
        with torch.inference_mode():
            expected = model(x).numpy()
        assert expected.shape == (1, 3, 2 * height, 2 * width)
        np.testing.assert_allclose(run(x.numpy()), expected, atol=1e-5)


def test_what_is_filled_up_repeats_the_border_and_is_cut_again():
    model = create_model(windowed_restorer(multiple=4)).double().eval()
    randomise(model)
    x = torch.rand(2, 3, 6, 9, dtype=torch.float64)
    filled = torch.nn.functional.pad(x, (0, 3, 0, 2), mode="replicate")
    unfilled = create_model(windowed_restorer()).double().eval()
    unfilled.load_state_dict(model.state_dict())
    expected = (unfilled(filled) - unfilled.enlarged(filled))[..., :12, :18] + unfilled.enlarged(x)
    torch.testing.assert_close(model(x), expected, rtol=1e-12, atol=1e-12)


def test_the_skip_is_exact_where_the_network_computes_in_half_precision():
    model = create_model("espcn_x2", skip=True).eval()
    x = torch.rand(1, 1, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model(x), model.enlarged(x))
    assert torch.equal(model(x), model.enlarged(x))


def test_with_a_skip_it_starts_as_bicubic_and_learns_at_once():
    model = create_model("espcn_x2", skip=True)
    x = torch.rand(1, 1, 8, 8)
    torch.testing.assert_close(model(x), model.enlarged(x), rtol=0, atol=0)
    model(x).sum().backward()
    assert model.get_parameter("head.conv.weight").grad.abs().max() > 0
    assert create_model("espcn_x2").get_parameter("head.conv.weight").abs().max() > 0


@pytest.mark.parametrize("changes", [{"scale": 0}, {"multiple": 0}])
def test_what_cannot_be_restored_is_refused(changes):
    with pytest.raises(UserError, match="a scale and a multiple from 1"):
        create_model(replace(windowed_restorer(), **changes))
