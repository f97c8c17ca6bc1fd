"""The convolutional tokenizer: grids, formula and initial scale."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from formwright.errors import UserError
from formwright.nn import build_part, part
from formwright.nn.initialization import initialize


@pytest.mark.parametrize(
    ("options", "side", "tokens"),
    [
        ({"kernel": 3}, 32, 16),
        ({"kernel": 3, "layers": 2}, 32, 8),
        ({"kernel": 7, "layers": 2}, 224, 14),
        ({"kernel": 7, "layers": 2}, 384, 24),
        ({"kernel": 3, "layers": 2}, 33, 9),
        ({"kernel": 3, "layers": 2}, 1, 1),
        ({"kernel": 4, "stride": 4, "padding": 0, "pooling": False}, 32, 8),
    ],
)
def test_grid_is_the_one_that_is_announced(options, side, tokens):
    tokenizer = build_part(part("convolutional_tokenizer", **options), 3, 8)
    size = (side, side + 2)
    x, context = tokenizer(torch.randn(1, 3, *size))
    assert tuple(x.shape[1:-1]) == tokenizer.output_grid(size)
    assert tokenizer.output_grid(size)[0] == tokens
    assert context.grid is None


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_it_is_convolution_activation_and_pooling(dimensions):
    tokenizer = build_part(part("convolutional_tokenizer", layers=2, hidden=5, dimensions=dimensions), 3, 8)
    image = torch.randn(2, 3, *[9] * dimensions)
    convolve = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[dimensions]
    pool = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[dimensions]
    expected = image
    for convolution in tokenizer.convolutions:
        expected = pool(convolve(expected, convolution.weight, padding=1).relu(), 3, 2, 1)
    assert torch.allclose(tokenizer(image)[0], expected.movedim(1, -1), atol=1e-5)


def test_it_starts_by_the_rule_of_he():
    tokenizer = build_part(part("convolutional_tokenizer", kernel=7, layers=2), 3, 256)
    initialize(tokenizer)
    for convolution in tokenizer.convolutions:
        fan_in = convolution.weight[0].numel()
        assert convolution.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.05)


def test_no_layer_is_refused():
    with pytest.raises(UserError, match="at least one layer"):
        build_part(part("convolutional_tokenizer", layers=0), 3, 8)
