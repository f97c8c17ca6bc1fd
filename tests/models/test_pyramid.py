"""The pyramid over any backbone: against a plain one, padding, widths that are cut, and what it refuses."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from formwright.catalog.claims.fpn import drawn_maps
from formwright.deployment import OnnxModel, export_onnx
from formwright.errors import UserError
from formwright.models import Network, build_network, create_model, from_pretrained, model_specification
from formwright.models.topologies.pyramid import Pyramid
from formwright.nn.edits import keep_entries, permute_entries
from formwright.nn.edits.axes import size_of, width_axes, widths_of
from formwright.nn.pyramid import finer
from tests.conformance.instances import randomise

TOY = {"options": {"depths": (1, 1, 1), "dims": (8, 12, 16)}, "dim": 8, "image_size": 64}


def toy(name: str = "resnet18_fpn", **changes: object) -> Network:
    torch.manual_seed(0)
    model = create_model(name, **{**TOY, **changes}).double().eval()
    randomise(model)
    return model


def values(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("size", [(64, 64), (96, 64)])
def test_it_is_what_the_paper_draws(size: tuple[int, int]) -> None:
    """Lateral convolutions, nearest neighbours twice as large, sums from the coarsest on, a convolution on each."""
    model = toy()
    assert isinstance(model, Pyramid)
    x = values(2, 3, *size)
    maps = [each.movedim(-1, 1) for each in model.features(x)[:3]]
    outputs = model(x)
    assert list(outputs) == ["level_0", "level_1", "level_2"]
    for level, expected in enumerate(drawn_maps(model, maps)):
        torch.testing.assert_close(outputs[f"level_{level}"], expected, rtol=1e-9, atol=1e-9)
        assert expected.shape[2:] == (size[0] // 2 ** (level + 2), size[1] // 2 ** (level + 2))


def test_places_behind_the_end_of_a_coarser_map_get_nothing() -> None:
    x = torch.arange(1.0, 7).view(1, 2, 3, 1)
    assert finer(x, (5, 6), (2, 2))[0, :, :, 0].tolist() == [
        [1, 1, 2, 2, 3, 3],
        [1, 1, 2, 2, 3, 3],
        [4, 4, 5, 5, 6, 6],
        [4, 4, 5, 5, 6, 6],
        [0, 0, 0, 0, 0, 0],
    ]


@pytest.mark.parametrize(
    ("backbone", "options"),
    [
        ("poolformer_s12", {"depths": (1,) * 4, "dims": (8, 12, 16, 20)}),
        ("swin_tiny_patch4_window7_224", {"depths": (1,) * 4, "dims": (8, 12, 16, 24), "heads": (2,) * 4, "window": 4}),
        ("efficientvit_m0", {}),
        ("vit_tiny_patch16_224", {"dim": 16, "depth": 2, "heads": 2}),
    ],
)
def test_on_any_backbone(backbone: str, options: dict[str, object]) -> None:
    model = toy(backbone=backbone, options=options)
    outputs = model(values(1, 3, 64, 64))
    infos = [info for info in model.feature_info if info.name.startswith("backbone")]
    assert len(outputs) == len(infos)
    for info, each in zip(infos, outputs.values(), strict=True):
        assert each.shape == (1, 8, 64 // info.stride, 64 // info.stride)
        assert torch.isfinite(each).all()


def test_some_stages_alone() -> None:
    model = toy(stages=(0, 2))
    outputs = model(values(1, 3, 64, 64))
    assert [each.shape[2] for each in outputs.values()] == [16, 4]
    assert model.neck.strides == [(4, 4)]


@pytest.mark.parametrize("size", [(40, 52), (37, 49), (64, 33)])
def test_padding_in_a_batch_is_as_if_it_were_not_there(size: tuple[int, int]) -> None:
    options = {"depths": (1,) * 4, "dims": (8, 12, 16, 20)}
    model = toy("convnext_tiny_fpn", options=options, image_size=128, sized=True)
    small = values(1, 3, *size)
    batch = values(2, 3, 128, 96, seed=1)
    batch[0, :, : size[0], : size[1]] = small[0]
    lengths = torch.tensor([size, (128, 96)])
    both, alone = model(batch, lengths=lengths), model(small, lengths=lengths[:1])
    whole = model(batch[1:], lengths=lengths[1:])
    for name, each in alone.items():
        corner = (slice(1), slice(None), *(slice(side) for side in each.shape[2:]))
        torch.testing.assert_close(both[name][corner], each, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(both[name][1:], whole[name], rtol=1e-9, atol=1e-9)
    with pytest.raises(UserError, match="give `lengths` beside the input"):
        model(small)


def test_widths_are_permuted_and_cut_in_all_that_shares_them(tmp_path: Path) -> None:
    model = toy()
    x = values(2, 3, 64, 64)
    widths = widths_of(model)
    assert len(widths) == 4  # of three stages, and of the sums
    expected = model(x)
    for seed, width in enumerate(widths):
        size = size_of(model, width_axes(model, width))
        order = torch.randperm(size, generator=torch.Generator().manual_seed(seed)).tolist()
        permute_entries(model, *width.members[0], order)
        for name, each in model(x).items():
            torch.testing.assert_close(each, expected[name], rtol=1e-9, atol=1e-9)
    model = toy().float()
    before = model.parameter_count()
    edits = []
    for width in widths:
        size = size_of(model, width_axes(model, width))
        edits.append(keep_entries(model, *width.members[0], range(1, size, 2)))
        model.record_edits(edits[-1:])
    assert model.parameter_count() < 0.6 * before
    model.save_pretrained(tmp_path)
    again = from_pretrained(tmp_path)
    for name, each in model(x.float()).items():
        torch.testing.assert_close(again(x.float())[name], each)


def test_one_onnx_file_takes_any_height_and_width(tmp_path: Path) -> None:
    model = toy(options={"depths": (1, 1), "dims": (8, 12)}).float()
    export_onnx(model, tmp_path / "model.onnx", torch.randn(2, 3, 32, 48), free=("height", "width"))
    run = OnnxModel(tmp_path / "model.onnx", threads=1)
    for size in ((32, 48), (41, 70)):
        x = values(3, 3, *size).float()
        with torch.inference_mode():
            expected = model(x)
        got = run({"input": x.numpy()})
        assert list(got) == list(expected)
        for name, each in expected.items():
            torch.testing.assert_close(torch.from_numpy(got[name]), each, rtol=1e-3, atol=1e-4)


def test_what_cannot_be_built_is_said() -> None:
    for stages in ((1, 0), (0, 3), (), (-1, 0), (1, 1)):
        with pytest.raises(UserError, match="stages of its backbone from fine to coarse, numbers from 0 to 2"):
            toy(stages=stages)
    with pytest.raises(UserError, match=r"unet_2d.*name a classifier of pictures"):
        model_specification("resnet18_fpn", backbone="unet_2d")
    with pytest.raises(UserError, match="has no option"):
        toy(backbone="unet_2d_small", options={"stages": 3})
    specification = toy().specification
    with pytest.raises(UserError, match="from fine to coarse"):
        build_network(dataclasses.replace(specification, neck=dataclasses.replace(specification.neck, stages=(5,))))
