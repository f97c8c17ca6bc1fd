"""EfficientNet-Lite where the common golden test does not reach."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from formwright.catalog.reference import reference_state, reference_variants
from formwright.models import Model, create_model, load_checkpoint
from formwright.models.pretrained import Preprocessing, read_pretrained
from formwright.nn import build_part, part
from formwright.nn.functional.convolution import same_padded
from formwright.resizing import Resizing


def small(**changes: Any) -> Model:
    torch.manual_seed(0)
    tiny = {"depths": (1, 2), "dims": (8, 12), "strides": (1, 2), "kernels": (3, 5), "ratios": (1, 2), "classes": 3}
    return create_model("efficientnet_lite0", **{**tiny, "stem_dim": 8, "head_dim": 16, **changes})


@pytest.mark.parametrize("side", [1, 2, 7, 8, 9, 16])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 2), (5, 3)])
def test_same_padding_is_that_of_its_definition(side: int, kernel: int, stride: int) -> None:
    places = -(-side // stride)
    missing = max((places - 1) * stride + kernel - side, 0)
    x = torch.arange(1.0, side + 1).view(1, 1, side)
    padded = same_padded(x, kernel, stride).flatten().tolist()
    assert padded == [0.0] * (missing // 2) + x.flatten().tolist() + [0.0] * (missing - missing // 2)
    assert F.conv1d(same_padded(x, kernel, stride), torch.ones(1, 1, kernel), stride=stride).shape[-1] == places


@pytest.mark.parametrize("kernel", [3, 5])
def test_a_side_is_centred_on_its_second_place_where_it_is_even(kernel: int) -> None:
    """The impulse of one place is seen by the outputs whose neighbourhood holds it, by the definition of SAME."""
    convolutions = part("inverted_convolutions", ratio=1, kernel=kernel, activation="identity", same_padding=True)
    spec = part("convolutional_downsampling", convolutions=convolutions, dimensions=1)
    reduction = build_part(spec, 1, 1).eval()
    with torch.no_grad():
        reduction.convolutions.conv2.conv.weight.copy_(torch.arange(1.0, kernel + 1).view(1, 1, kernel))
        reduction.convolutions.conv3.conv.weight.fill_(1.0)
        seen, _ = reduction(torch.eye(8).unsqueeze(-1))
    front = (kernel - 2) // 2
    expected = [[max(0, place - 2 * out + front + 1) for out in range(4)] for place in range(8)]
    expected = [[value if value <= kernel else 0 for value in row] for row in expected]
    torch.testing.assert_close(seen.squeeze(-1), torch.tensor(expected, dtype=torch.float32), rtol=1e-4, atol=1e-4)


def test_blocks_that_change_the_width_have_no_residual_connection() -> None:
    model = small(depths=(2, 3))
    assert [len(stage.blocks) for stage in model.backbone.stages] == [1, 2, 0]
    assert [stage.stride for stage in model.feature_info] == [2, 4, 4]
    rates = [
        branch.drop_path
        for stage in small(depths=(2, 3), drop_path=0.2).specification.stages
        for block in stage.blocks
        for branch in block.branches
    ]
    assert rates == pytest.approx([0.0, 0.1, 0.2])


def test_a_published_file_says_which_size_it_is_and_how_pictures_were_prepared(tmp_path: Path) -> None:
    for size, side in ((0, 224), (1, 240)):
        figures = reference_variants("efficientnet-lite")[f"efficientnet_lite{size}"]
        path = tmp_path / f"lite{size}.pth"
        torch.save({name: tensor.float() for name, tensor in reference_state(figures["layout"]).items()}, path)
        found = read_pretrained(path)
        assert found.specification.name == f"efficientnet_lite{size}"
        assert found.preprocessing == Preprocessing(
            (127 / 255,) * 3, (128 / 255,) * 3, (side, side), Resizing(crop=0.875)
        )
        few = create_model(f"efficientnet_lite{size}", classes=2, image_size=96)
        assert load_checkpoint(few, path, head=False, resize_positions=True) == "tensorflow/tpu"
    assert few.eval()(torch.zeros(1, 3, 96, 96)).shape == (1, 2)
