"""Attention to points of several maps: transformers' own, one point at a time, padding, and what it refuses."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from transformers import DeformableDetrConfig
from transformers.models.deformable_detr.modeling_deformable_detr import DeformableDetrMultiscaleDeformableAttention

from formwright.errors import UserError
from formwright.nn import PARTS
from formwright.nn.context import Context
from formwright.nn.functional.deformable_attention import deformable_attention
from formwright.nn.token_mixers.deformable_attention import DeformableAttention
from tests.conformance.instances import randomise

GRIDS = ((5, 7), (3, 4))
DIM, HEADS, POINTS = 16, 4, 3


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mixer(seed: int = 0) -> DeformableAttention:
    part = PARTS["deformable_attention"](DIM, heads=HEADS, levels=2, points=POINTS).double().eval()
    randomise(part, seed)
    assert isinstance(part, DeformableAttention)
    return part


def told(batch: int = 2, queries: int = 6, **changes: object) -> Context:
    memory = draw(batch, sum(math.prod(grid) for grid in GRIDS), DIM, seed=1) - 0.5
    context = Context(memory=memory, memory_grids=GRIDS, positions=draw(batch, queries, 2, seed=2))
    return context.replace(**changes)


def test_equal_to_transformers() -> None:
    part, context, x = mixer(), told(), draw(2, 6, DIM)
    config = DeformableDetrConfig(d_model=DIM, num_feature_levels=2)
    theirs = DeformableDetrMultiscaleDeformableAttention(config, HEADS, POINTS).double()
    state = part.state_dict()
    names = {
        "value_proj": "values",
        "sampling_offsets": "offsets",
        "attention_weights": "shares",
        "output_proj": "proj",
    }
    theirs.load_state_dict(
        {f"{a}.{leaf}": state[f"{b}.{leaf}"] for a, b in names.items() for leaf in ("weight", "bias")}
    )
    shapes = torch.tensor(GRIDS)
    expected, _ = theirs(
        x,
        encoder_hidden_states=context.memory,
        reference_points=context.positions[:, :, None].expand(-1, -1, 2, -1),
        spatial_shapes=shapes,
        spatial_shapes_list=list(GRIDS),
        level_start_index=torch.tensor([0, 35]),
    )
    torch.testing.assert_close(part(x, context), expected, rtol=1e-9, atol=1e-9)


def test_one_point_at_a_time() -> None:
    values, grids = draw(2, 11, 2, 3), ((2, 4), (1, 3))
    points, shares = 1.4 * draw(2, 5, 2, 2, 3, 2, seed=1) - 0.2, draw(2, 5, 2, 2, 3, seed=2)
    expected = torch.zeros(2, 5, 2, 3, dtype=torch.float64)
    for b in range(2):
        for q in range(5):
            for h in range(2):
                for level, (height, width) in enumerate(grids):
                    own = values[b, sum(math.prod(grid) for grid in grids[:level]) :, h][: height * width]
                    for point, share in zip(points[b, q, h, level], shares[b, q, h, level], strict=True):
                        x, y = float(point[0]) * width - 0.5, float(point[1]) * height - 0.5
                        for i in (math.floor(y), math.floor(y) + 1):
                            for j in (math.floor(x), math.floor(x) + 1):
                                if 0 <= i < height and 0 <= j < width:
                                    near = (1 - abs(y - i)) * (1 - abs(x - j))
                                    expected[b, q, h] += share * near * own[i * width + j]
    torch.testing.assert_close(deformable_attention(values, grids, points, shares), expected)


def test_padding_of_the_maps_is_as_if_it_were_not_there() -> None:
    part, x, context = mixer(), draw(1, 6, DIM), told(1)
    maps = context.memory.split([35, 12], dim=1)
    wide, masks = [], []
    for each, (height, width) in zip(maps, GRIDS, strict=True):
        filled = draw(1, height + 2, width + 3, DIM, seed=5)
        filled[:, :height, :width] = each.view(1, height, width, DIM)
        mask = torch.zeros(1, height + 2, width + 3, dtype=torch.bool)
        mask[:, :height, :width] = True
        wide.append(filled.flatten(1, 2))
        masks.append(mask.flatten(1))
    padded = context.replace(
        memory=torch.cat(wide, 1),
        memory_mask=torch.cat(masks, 1),
        memory_grids=tuple((height + 2, width + 3) for height, width in GRIDS),
    )
    torch.testing.assert_close(part(x, padded), part(x, context), rtol=1e-9, atol=1e-9)


def test_it_starts_around_each_place_in_the_direction_of_its_head() -> None:
    part = DeformableAttention(DIM, heads=HEADS, levels=2, points=2)
    offsets = part.offsets(torch.randn(1, DIM)).view(HEADS, 2, 2, 2)
    directions = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    for head in range(HEADS):
        for point in range(2):
            for level in range(2):
                torch.testing.assert_close(
                    offsets[head, level, point], (point + 1) * directions[head], atol=1e-6, rtol=0
                )
    assert not part.shares(torch.randn(1, DIM)).any()


def test_heads_are_cut_from_all_its_layers() -> None:
    axes = mixer().axes()
    assert {name: axis[0].block for name, axis in axes.items() if axis[0].name == "heads"} == {
        "values.weight": 4,
        "offsets.weight": 12,
        "shares.weight": 6,
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"memory": None}, "needs a memory, the grids of its maps and a place"),
        ({"memory_grids": None}, "needs a memory, the grids of its maps and a place"),
        ({"positions": None}, "needs a memory, the grids of its maps and a place"),
        ({"memory_grids": ((5, 7),)}, r"of 2 maps expects as many grids.*got \(\(5, 7\),\)"),
        ({"memory_grids": ((5, 7), (3, 5))}, r"a memory token for each place"),
        ({"memory_grids": ((35,), (12,))}, "grids of two axes"),
        ({"positions": torch.zeros(2, 5, 2).double()}, r"\(2, 6, 2\), and got \(2, 5, 2\)"),
    ],
)
def test_what_is_missing_or_does_not_fit_is_said(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        mixer()(draw(2, 6, DIM), told(**changes))
