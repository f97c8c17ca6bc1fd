"""Tables of positions for another size: values as timm has them, in half precision too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from formwright.models import create_model, load_checkpoint
from formwright.models.resizing import resized_bias, resized_grid, resized_tables

SWIN = {"depths": (2, 2), "dims": (16, 32), "heads": (2, 4), "classes": 5}
GOLDEN = json.loads((Path(__file__).parent / "resizing.json").read_text())


def filled(rows: int, columns: int) -> Tensor:
    """Values that the golden figures were made of."""
    return torch.sin(torch.arange(rows * columns, dtype=torch.float64) * 0.7).view(rows, columns).float()


@pytest.mark.parametrize("case", GOLDEN["grids"], ids=str)
def test_grids_are_resized_as_timm_does(case: dict[str, list[float]]) -> None:
    side, prefix, height, width = map(int, case["sizes"])
    found = resized_grid(filled(prefix + side**2, 3), (height, width), prefix)
    torch.testing.assert_close(found.flatten()[::7], torch.tensor(case["values"]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", GOLDEN["biases"], ids=str)
def test_biases_are_resized_as_timm_does(case: dict[str, list[float]]) -> None:
    old, new = map(int, case["sizes"])
    found = resized_bias(filled((2 * old - 1) ** 2, 2), (2 * new - 1) ** 2)
    torch.testing.assert_close(found.flatten()[::7], torch.tensor(case["values"]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", GOLDEN["distances"], ids=str)
def test_distances_are_resized_as_timm_does(case: dict[str, list[float]]) -> None:
    old, new = map(int, case["sizes"])
    found = resized_grid(filled(2, old**2).T, (new, new)).T
    torch.testing.assert_close(found.flatten()[::7], torch.tensor(case["values"]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_half_precision_is_resized_in_float32(dtype: torch.dtype) -> None:
    table = filled(1 + 16, 3)
    found = resized_grid(table.to(dtype), (6, 6), 1)
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), resized_grid(table, (6, 6), 1), rtol=2e-2, atol=2e-2)
    bias = resized_bias(filled(49, 2).to(dtype), 121)
    assert bias.dtype == dtype
    torch.testing.assert_close(bias.float(), resized_bias(filled(49, 2), 121), rtol=2e-2, atol=2e-2)


def test_a_window_transformer_takes_weights_of_another_window() -> None:
    torch.manual_seed(0)
    small = create_model("swin_tiny_patch4_window7_224", **SWIN, window=4, image_size=64)
    large = create_model("swin_tiny_patch4_window7_224", **SWIN, window=6, image_size=96)
    for state in (small.state_dict(), {name: tensor.half() for name, tensor in small.state_dict().items()}):
        load_checkpoint(large, state, resize_positions=True)
        name = "backbone.stages.0.blocks.1.branches.0.part.relative_position_bias.table"
        table = large.state_dict()[name]
        assert table.shape == (121, 2)
        near = small.state_dict()[name].view(7, 7, 2)[2:5, 2:5]
        assert (table.view(11, 11, 2)[4:7, 4:7] - near).abs().max() < 2e-3, "the nearest differences keep their biases"


def test_a_text_model_takes_the_first_places_of_a_longer_one() -> None:
    options = {"dim": 16, "depth": 1, "heads": 2, "vocabulary": 11}
    long = create_model("bert_tiny", length=12, **options)
    short = create_model("bert_tiny", length=5, **options)
    load_checkpoint(short, long.state_dict(), resize_positions=True)
    table = "backbone.stages.0.entry.0.table"
    assert torch.equal(short.state_dict()[table], long.state_dict()[table][:5])


def test_what_is_no_table_and_what_does_not_fit_stays() -> None:
    model = create_model("vit_tiny_patch16_224", dim=16, depth=1, heads=2, image_size=32, classes=3)
    table = "backbone.stages.0.entry.1.table"
    odd = ({table: torch.ones(7, 16)}, {table: torch.ones(5, 8)}, {"other.table": torch.ones(3)})
    for state in (model.state_dict(), *odd):
        resized = resized_tables(model, state)
        assert resized.keys() == state.keys()
        assert all(torch.equal(resized[name], tensor) for name, tensor in state.items())
