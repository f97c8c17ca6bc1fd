"""U-Nets: what is particular to them beside what tests/conformance/test_networks.py holds every network to."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import formwright
from formwright.catalog.reference import reference_figures, reference_state
from formwright.deployment import OnnxModel, export_onnx
from formwright.errors import UserError
from formwright.measurement.macs import count_macs
from formwright.models import Network, build_network, create_model, empty_copy, from_pretrained, load_checkpoint
from formwright.nn import Context, PartSpec
from formwright.nn.edits import apply_edits, keep_entries, permute_entries, widths_of
from formwright.nn.edits.axes import size_of, width_axes
from formwright.nn.specification import EditSpec, part
from formwright.objectives import Batch, DenseClassification, means
from tests.conformance.instances import randomise

TINY = {"dims": (8, 12, 16), "depths": (1, 1, 1), "classes": 5}
MAMBA = part("flattened", part=part("mamba", states=3))


def tiny(name: str = "unet_2d_small", seed: int = 0, **changes: Any) -> Network:
    torch.manual_seed(seed)
    model = create_model(name, **(TINY | changes)).double().eval()
    randomise(model, seed)
    return model


def values(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "changes", "size"),
    [
        ("unet_1d_small", {}, (13,)),
        ("unet_2d_small", {}, (13, 6)),
        ("unet_2d_small", {"join": "sum", "norm": part("group_norm")}, (1, 9)),
        ("unet_2d_small", {"mixers": ("convolutions", "pooling", MAMBA)}, (7, 10)),
        ("unet_2d_small", {"mixers": ("convolutions", "separable_convolution", "depthwise_conv_norm")}, (8, 8)),
        ("unet_2d_small", {"mixers": ("convolutions", part("window_attention", heads=2, window=2), "pooling")}, (9, 8)),
        ("unet_3d_small", {"mixers": ("convolutions", part("attention", heads=2), MAMBA)}, (5, 4, 3)),
        ("unet_3d_small", {"upsampling": part("interpolated_upsampling"), "drop_path": 0.1}, (4, 4, 9)),
    ],
)
def test_any_mixer_on_any_level_and_any_size(name: str, changes: dict[str, Any], size: tuple[int, ...]) -> None:
    model = tiny(name, **changes)
    x = values(2, 1, *size)
    y = model(x)
    assert y.shape == (2, 5, *size)
    assert torch.isfinite(y).all()
    torch.testing.assert_close(model(x[1:]), y[1:], rtol=1e-9, atol=1e-9)
    filled = torch.zeros(2, 1, *(-(-side // 4) * 4 for side in size)).double()
    inside = (..., *(slice(side) for side in size))
    filled[inside] = x
    torch.testing.assert_close(model(filled)[inside], y, rtol=1e-9, atol=1e-9)
    model.train()
    (model(x) * values(*y.shape, seed=1)).sum().backward()
    for path, parameter in model.named_parameters():
        assert parameter.grad is not None, path
        assert torch.isfinite(parameter.grad).all(), path


def test_the_strides_and_channels_of_its_levels() -> None:
    model = tiny(depths=(1, 2, 1), decoder_depths=(2, 1), image_size=(20, 24))
    assert [(info.name, info.stride, info.dim) for info in model.feature_info] == [
        ("encoder.0", 1, 8),
        ("encoder.1", 2, 12),
        ("encoder.2", 4, 16),
        ("decoder.0", 2, 12),
        ("decoder.1", 1, 8),
    ]
    (bottom, top) = model.features(values(2, 1, 18, 24), ["encoder.2", "decoder.1"])
    assert bottom.shape == (2, 5, 6, 16)
    assert top.shape == (2, 20, 24, 8)
    assert [len(stage.blocks) for stage in model.decoder] == [1, 2]
    rates = [b.drop_path for b in tiny(drop_path=0.2).specification.encoder[2].blocks[0].branches]
    assert rates == [0.2]


@pytest.mark.parametrize(
    ("name", "sides"), [("unet_1d_small", (9,)), ("unet_2d_small", (9, 6)), ("unet_3d_small", (5, 6, 3))]
)
@pytest.mark.parametrize("mixer", ["convolutions", part("attention", heads=2)])
def test_padding_in_a_batch_is_as_if_it_were_not_there(
    name: str, sides: tuple[int, ...], mixer: PartSpec | str
) -> None:
    model = tiny(name, mixers=("convolutions", "convolutions", mixer), sized=True)
    small, large = values(1, 1, *sides), values(1, 1, *(side + 4 for side in sides), seed=1)
    batch = values(2, 1, *(side + 4 for side in sides), seed=2)
    inside = (..., *(slice(side) for side in sides))
    batch[0][inside], batch[1] = small[0], large[0]

    def lengths(*sizes: tuple[int, ...]) -> Tensor:
        return torch.tensor(sizes).squeeze(-1)

    both = model(batch, lengths=lengths(sides, tuple(batch.shape[2:])))
    torch.testing.assert_close(both[:1][inside], model(small, lengths=lengths(sides)), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(both[1:], model(large, lengths=lengths(tuple(batch.shape[2:]))), rtol=1e-9, atol=1e-9)
    unsized = tiny(name, mixers=("convolutions", "convolutions", mixer))
    mask = torch.ones(1, *sides, dtype=torch.bool)
    torch.testing.assert_close(unsized(small, Context(mask=mask)), model(small, lengths=lengths(sides)))


def test_monais_checkpoint_loads_strictly() -> None:
    layout = reference_figures("unet")["variants"]["monai_basic_unet_2d"]["layout"]
    state = {name: tensor.float() for name, tensor in reference_state(layout).items()}
    model = create_model("monai_basic_unet_2d")
    assert load_checkpoint(model, state) == "MONAI"
    kernel = state["upcat_3.upsample.deconv.weight"]
    rows = model.upsampling[1].linear.weight.view(2, 2, 64, 128)
    assert torch.equal(rows[1, 0], kernel[:, :, 1, 0].T)
    with pytest.raises(UserError, match=r"1 missing: upsampling\.0\.bias"):
        load_checkpoint(model, {name: x for name, x in state.items() if name != "upcat_4.upsample.deconv.bias"})
    with pytest.raises(UserError, match="1 unexpected: extra"):
        load_checkpoint(model, {**state, "extra": torch.zeros(1)})


def test_upsampling_is_a_transposed_convolution() -> None:
    model = tiny()
    upsample = model.upsampling[0]
    x = values(2, 3, 4, 16)
    kernel = upsample.linear.weight.view(2, 2, 12, 16).permute(3, 2, 0, 1)
    expected = torch.conv_transpose2d(x.movedim(-1, 1), kernel, upsample.bias, stride=2).movedim(1, -1)
    torch.testing.assert_close(upsample(x)[0], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("join", ["concatenate", "sum"])
def test_widths_are_permuted_and_cut_in_all_that_shares_them(join: str, tmp_path: Path) -> None:
    model = tiny(join=join)
    x = values(2, 1, 9, 8)
    widths = widths_of(model)
    assert len(widths) == 3
    with torch.no_grad():
        expected = model(x)
        for seed, width in enumerate(widths):
            size = size_of(model, width_axes(model, width))
            order = torch.randperm(size, generator=torch.Generator().manual_seed(seed)).tolist()
            permute_entries(model, *width.members[0], order)
            torch.testing.assert_close(model(x), expected, rtol=1e-9, atol=1e-9)
    model = tiny(join=join).float()
    before = model.parameter_count()
    for width in widths:
        size = size_of(model, width_axes(model, width))
        model.record_edits([keep_entries(model, *width.members[0], range(1, size, 2))])
    assert model.parameter_count() < before
    model.save_pretrained(tmp_path)
    torch.testing.assert_close(from_pretrained(tmp_path)(x.float()), model(x.float()), rtol=1e-5, atol=1e-5)


def test_a_dropped_branch_and_a_folded_norm_reload(tmp_path: Path) -> None:
    model = tiny(norm=part("batch_norm"), depths=(1, 2, 1))
    x = values(2, 1, 10, 12)
    edits = [
        EditSpec("fold"),
        EditSpec("drop", "encoder.1.blocks.1.branches.0"),
        EditSpec("drop", "decoder.0.blocks.0.branches.0"),
    ]
    expected = model(x)
    before = model.parameter_count()
    apply_edits(model, edits[:1])
    torch.testing.assert_close(model(x), expected, rtol=1e-9, atol=1e-9)
    assert not any("norm" in path for path, _ in model.named_parameters())
    apply_edits(model, edits[1:])
    model.record_edits(edits)
    assert model.parameter_count() < before
    model.float().save_pretrained(tmp_path)
    assert torch.equal(from_pretrained(tmp_path)(x.float()), model(x.float()))


def test_mamba_below_is_exported_for_any_batch(tmp_path: Path) -> None:
    model = tiny(dims=(8, 12), depths=(1, 1), mixers=("convolutions", MAMBA), image_size=16)
    x = values(2, 1, 16, 16)
    axes = {"input": {0: torch.export.Dim("batch", min=1, max=64)}}
    with torch.no_grad():
        program = torch.export.export(model, (x,), dynamic_shapes=axes).module()
        for size in (1, 3):
            other = values(size, 1, 16, 16, seed=size)
            torch.testing.assert_close(program(other), model(other), rtol=1e-9, atol=1e-9)
        torch.compiler.reset()
        compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(compiled(x), model(x), rtol=1e-9, atol=1e-9)
    export_onnx(model.float(), tmp_path / "model.onnx", x.float())
    answer = OnnxModel(tmp_path / "model.onnx").on_tensors({"input": x[:1].float()})
    np.testing.assert_allclose(answer, model(x[:1].float()).detach().numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["unet_2d_small", "monai_basic_unet_2d"])
def test_one_onnx_file_takes_any_height_and_width(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = create_model(name, dims=(8, 12), **({} if "basic" in name else {"depths": (1, 1)}), classes=3).eval()
    export_onnx(model, tmp_path / "model.onnx", torch.randn(2, 1, 16, 24), free=("height", "width"))
    run = OnnxModel(tmp_path / "model.onnx")
    for size in ((1, 16, 24), (3, 13, 30), (2, 33, 9)):
        x = torch.randn(size[0], 1, *size[1:])
        np.testing.assert_allclose(run.on_tensors({"input": x}), model(x).detach().numpy(), rtol=1e-3, atol=1e-4)


def test_measured_and_counted() -> None:
    (line,) = formwright.measure("unet_2d_small", size=32, backends=("eager",))
    model = empty_copy(create_model("unet_2d_small", image_size=32).specification)
    assert line.macs == count_macs(model, torch.empty(1, 1, 32, 32, device="meta"))
    for name, size in (("unet_1d_small", 64), ("unet_3d_small", 8)):
        (line,) = formwright.measure(name, size=size, backends=("eager",))
        assert line.macs > 0
    basic = empty_copy(create_model("monai_basic_unet_2d", dims=(4, 8), out_dim=4).specification)
    below, top = 16 * 16, 32 * 32
    expected = top * 9 * (4 + 16) + below * 9 * (32 + 64) + below * 8 * 16 + top * 9 * (32 + 16) + top * 8
    assert count_macs(basic, torch.empty(1, 1, 32, 32, device="meta")) == expected


def circles_and_squares(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Pictures of 32 x 32, noise over one circle and one square, and which of the three each place is."""
    random = np.random.RandomState(seed)
    rows, columns = np.mgrid[:32, :32]
    maps = np.zeros((count, 32, 32), np.int64)
    for each in maps:
        for kind in (1, 2):
            (y, x), side = random.randint(6, 26, 2), random.randint(4, 7)
            inside = (
                np.hypot(rows - y, columns - x) <= side
                if kind == 1
                else np.maximum(abs(rows - y), abs(columns - x)) < side
            )
            each[inside] = kind
    pictures = (maps > 0) + 0.4 * random.standard_normal(maps.shape)
    return torch.from_numpy(pictures).float()[:, None], torch.from_numpy(maps)


def learn(model: Network, inputs: Tensor, targets: Tensor, steps: int, batch: int = 16) -> None:
    optimiser = torch.optim.AdamW(model.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    objective = DenseClassification(dice=1.0)
    random = torch.Generator().manual_seed(0)
    model.train()
    for _ in range(steps):
        rows = torch.randint(len(inputs), (batch,), generator=random)
        objective(model, Batch(inputs[rows], targets[rows]), 0.0).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        schedule.step()
    model.eval()


@torch.no_grad()
def overlap(model: Network, inputs: Tensor, targets: Tensor) -> float:
    return means([DenseClassification()(model, Batch(inputs, targets), 1.0)])["iou"]


def test_it_learns_to_tell_circles_from_squares() -> None:
    torch.manual_seed(0)
    model = create_model("unet_2d_small", dims=(8, 16, 32, 64), classes=3, image_size=32)
    learn(model, *circles_and_squares(512, seed=0), steps=150)
    inputs, targets = circles_and_squares(64, seed=1)
    majority = float((targets == 0).float().mean()) / 3  # background everywhere: all of that class, nothing of others
    assert majority < 0.31
    assert overlap(model, inputs, targets) > 0.65


@pytest.mark.parametrize(("name", "side"), [("unet_1d_small", 64), ("unet_3d_small", 8)])
def test_it_learns_where_steps_of_series_and_volumes_are(name: str, side: int) -> None:
    axes = 1 if side == 64 else 3
    random = np.random.RandomState(0)
    maps = np.zeros((96, *[side] * axes), np.int64)
    for each in maps:
        first = random.randint(0, side // 2, axes)
        each[tuple(slice(start, start + side // 2) for start in first)] = 1
    inputs = torch.from_numpy(maps + 0.5 * random.standard_normal(maps.shape)).float()[:, None]
    targets = torch.from_numpy(maps)
    torch.manual_seed(0)
    model = create_model(name, dims=(8, 16), depths=(1, 1), classes=2, image_size=side)
    learn(model, inputs[:64], targets[:64], steps=40)
    assert overlap(model, inputs[64:], targets[64:]) > 0.85


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depths": (1, 1)}, "3 dims, 2 depths, 3 mixers"),
        ({"mixers": ("convolutions",)}, "3 dims, 3 depths, 1 mixers"),
        ({"dims": (8,), "depths": (1,)}, "at least two levels.*got 1 dims"),
        ({"decoder_depths": (1,)}, "got 3 dims and 1 decoder_depths"),
        ({"join": "attention"}, 'by "concatenate" or "sum", not by \'attention\''),
        ({"axes": 4}, "1, 2 or 3 axes.*axes=4"),
        ({"image_size": (8, 8, 8)}, r"axes=2, image_size=\(8, 8, 8\)"),
        ({"channels": 0}, "0 channels"),
        (
            {"mixers": ("convolutions", "convolutions", "mamba")},
            r"Mamba \(encoder.2.*grid of 1 axes, and this.*has 2; part",
        ),
        (
            {"mixers": ("convolutions", "convolutions", part("each", part=part("attention", heads=2))), "axes": 1},
            "Each",
        ),
        ({"mixers": ("convolutions", "convolutions", "nonsense")}, "nonsense"),
        ({"upsampling": part("upsampling", stride=4)}, "Upsampling makes .* its stride must be that"),
        (
            {
                "norm": part("batch_norm"),
                "mixers": ("convolutions", "convolutions", "depthwise_conv_norm"),
                "sized": True,
            },
            "padding",
        ),
    ],
)
def test_what_cannot_be_built_is_said(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tiny(**changes)


def test_a_specification_that_does_not_fit_together_is_said() -> None:
    specification = tiny().specification
    with pytest.raises(UserError, match=r"3 encoder stages needs 2 upsampling parts and decoder stages.*got 2 and 1"):
        build_network(dataclasses.replace(specification, decoder=specification.decoder[:1]))
    stage = dataclasses.replace(specification.decoder[0], downsample=None)
    with pytest.raises(UserError, match="projects the concatenated channels"):
        build_network(dataclasses.replace(specification, decoder=(stage, specification.decoder[1])))
    stem = dataclasses.replace(specification.encoder[0], downsample=part("downsampling"))
    with pytest.raises(UserError, match="keeps the grid"):
        build_network(dataclasses.replace(specification, encoder=(stem, *specification.encoder[1:])))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 3, 8, 8), r"\(batch, 1, height, width\), got \(2, 3, 8, 8\)"),
        ((2, 1, 8), r"got \(2, 1, 8\)"),
        ((2, 1, 8, 0), "nothing to score"),
    ],
)
def test_what_it_cannot_take_is_said(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tiny()(values(*shape))
    with pytest.raises(UserError, match="memory"):
        tiny()(values(1, 1, 8, 8), Context(memory=values(1, 3, 8)))
    with pytest.raises(UserError, match="give `lengths` beside the input"):
        tiny(sized=True)(values(1, 1, 8, 8))


def test_a_batch_of_nothing_and_mapped_ones() -> None:
    for name, sides in (("unet_1d_small", (13,)), ("unet_2d_small", (6, 9)), ("monai_basic_unet_2d", (8, 4))):
        model = tiny(name) if "basic" not in name else create_model(name, dims=(4, 8), classes=5).double().eval()
        assert model(values(0, 1, *sides)).shape == (0, 5, *sides)
        batches = values(3, 2, 1, *sides)
        torch.testing.assert_close(torch.vmap(model)(batches), torch.stack([model(x) for x in batches]))
