"""The query decoder: sets by layer, padding, sizes, edits, export; and it learns to find shapes on clutter."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import formwright
from formwright.catalog.experiments import shapes
from formwright.compression import prune
from formwright.data.detection import DetectionBatches
from formwright.data.synthetic.coloured_shapes import coloured_shapes
from formwright.deployment import OnnxModel, export_onnx
from formwright.errors import UserError
from formwright.inference.detection import detections
from formwright.models import Network, build_network, create_model, from_pretrained
from formwright.nn import Context, part
from formwright.nn.edits import keep_entries, permute_entries
from formwright.nn.edits.axes import size_of, width_axes, widths_of
from formwright.nn.edits.parts import replace_part
from formwright.objectives import SetPrediction
from tests.conformance.instances import randomise

TOY = {"dims": (8, 12, 16), "depths": (1, 1, 1), "dim": 16, "heads": 2, "queries": 6, "classes": 3, "image_size": 64}
READINGS = ("deformable_attention", "cross_attention")
each_reading = pytest.mark.parametrize("reading", READINGS)


def toy(reading: str = READINGS[0], **changes: object) -> Network:
    torch.manual_seed(0)
    model = create_model("query_detector_small", **{**TOY, "reading": reading, **changes}).double().eval()
    randomise(model)
    return model


def values(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@each_reading
def test_a_set_for_each_layer_in_training_and_the_last_one_afterwards(reading: str) -> None:
    model = toy(reading)
    x = values(2, 3, 64, 48)
    last = model(x)
    assert {name: tuple(each.shape) for name, each in last.items()} == {"classes": (2, 6, 4), "boxes": (2, 6, 4)}
    model.training = True  # the network alone: its norms go on as they are
    every = model(x)
    assert list(every) == ["classes_0", "boxes_0", "classes_1", "boxes_1", "classes", "boxes"]
    for name, each in last.items():
        torch.testing.assert_close(every[name], each)
    # The set of the first layer is that of a decoder which has no other.
    alone = (
        build_network(dataclasses.replace(model.specification, decoder=model.specification.decoder[:1])).double().eval()
    )
    alone.load_state_dict(
        {name: x for name, x in model.state_dict().items() if not name.startswith(("decoder.1", "decoder.2"))}
    )
    for name, each in alone(x).items():
        torch.testing.assert_close(every[f"{name}_0"], each)
    assert all(((each >= 0) & (each <= 1)).all() for name, each in every.items() if "boxes" in name)


def test_the_memory_is_all_maps_with_their_places_and_grids() -> None:
    model = toy()
    x = values(2, 3, 64, 48)
    memory = model.remember(x)
    assert memory.memory_grids == ((16, 12), (8, 6), (4, 3))
    assert memory.memory is not None
    assert memory.memory.shape == (2, 16 * 12 + 8 * 6 + 4 * 3, 16)
    assert memory.memory_mask is None
    maps = model.neck(model.backbone.maps(x, (0, 1, 2), model.settle()))
    told = memory.memory[:, 192 : 192 + 48] - maps[1][0].flatten(1, 2) - model.levels[1]
    torch.testing.assert_close(told[0], told[1])  # what is left are places, which are nobody's own
    assert told.abs().max() <= 1 + 1e-6
    assert toy("cross_attention").remember(x).memory_grids is None  # nobody asks for them


@each_reading
def test_padding_in_a_batch_is_as_if_it_were_not_there(reading: str) -> None:
    model = toy(reading, sized=True)
    for size in ((37, 50), (64, 30), (33, 33)):
        small = values(1, 3, *size)
        batch = values(2, 3, 64, 64, seed=1)
        batch[0, :, : size[0], : size[1]] = small[0]
        lengths = torch.tensor([size, (64, 64)])
        both, alone = model(batch, lengths=lengths), model(small, lengths=lengths[:1])
        for name, each in alone.items():
            torch.testing.assert_close(both[name][:1], each, rtol=1e-9, atol=1e-9)
    mask = torch.ones(1, *small.shape[2:], dtype=torch.bool)
    unsized = toy(reading)
    torch.testing.assert_close(unsized(small, Context(mask=mask))["boxes"], alone["boxes"])
    with pytest.raises(UserError, match="give `lengths` beside the input"):
        model(small)


@each_reading
def test_widths_are_permuted_and_cut_in_all_that_shares_them(reading: str, tmp_path: Path) -> None:
    model = toy(reading)
    x = values(2, 3, 64, 64)
    widths = widths_of(model)
    assert len(widths) == 5  # of three stages, of the pyramid's sums, and of the queries
    expected = model(x)
    for seed, width in enumerate(widths):
        size = size_of(model, width_axes(model, width))
        order = torch.randperm(size, generator=torch.Generator().manual_seed(seed)).tolist()
        permute_entries(model, *width.members[0], order)
        for name, each in model(x).items():
            torch.testing.assert_close(each, expected[name], rtol=1e-9, atol=1e-9)
    model = toy(reading).float()
    before = model.parameter_count()
    for width in widths:
        size = size_of(model, width_axes(model, width))
        model.record_edits([keep_entries(model, *width.members[0], range(0, size, 2))])
    assert model.parameter_count() < 0.7 * before
    model.save_pretrained(tmp_path)
    again = from_pretrained(tmp_path)
    for name, each in model(x.float()).items():
        torch.testing.assert_close(again(x.float())[name], each)


def test_one_onnx_file_takes_any_height_and_width(tmp_path: Path) -> None:
    model = toy(dims=(8, 12), depths=(1, 1), levels=2, depth=1).float()  # layers are all written alike
    export_onnx(model, tmp_path / "model.onnx", torch.randn(2, 3, 48, 64), free=("height", "width"))
    run = OnnxModel(tmp_path / "model.onnx", threads=1)
    for size in ((64, 64), (51, 90)):
        x = values(3, 3, *size).float()
        with torch.inference_mode():
            expected = model(x)
        got = run({"input": x.numpy()})
        assert list(got) == ["classes", "boxes"]
        for name, each in expected.items():
            torch.testing.assert_close(torch.from_numpy(got[name]), each, rtol=1e-3, atol=1e-4)


def test_measured_and_counted() -> None:
    (line,) = formwright.measure("query_detector_small", size=64, backends=("eager",))
    assert line.macs > 0
    assert [info.stride for info in toy().feature_info][:3] == [4, 8, 16]


@pytest.mark.slow
def test_it_learns_to_find_shapes_on_clutter(tmp_path: Path) -> None:
    """Well above chance after few steps; then pruned, saved, loaded and exported, it still finds them."""
    chance, untrained = shapes.scores_of_chance(), shapes.scores(shapes.small_detector(0, depth=2).eval())
    assert 0 < chance.map_50 < 0.02
    assert untrained.map_50 < 0.02
    learned = shapes.train_detector(0, steps=120, depth=2)
    scores = shapes.scores(learned)
    assert scores.map_50 > 0.08
    assert scores.mean_average_precision > 20 * max(chance.mean_average_precision, untrained.mean_average_precision)
    assert all(each is not None and each > 0.01 for each in scores.of_classes)
    most = int(0.9 * learned.parameter_count())
    batches = DetectionBatches(coloured_shapes(64, side=shapes.SIDE), batch_size=8)
    smaller = prune(learned, [next(batches) for _ in range(4)], parameters=most, objective=SetPrediction())
    assert smaller.parameter_count() <= most
    smaller.save_pretrained(tmp_path)
    again = from_pretrained(tmp_path)
    kept = shapes.scores(again)
    assert kept == shapes.scores(smaller)
    assert kept.map_50 > 0.6 * scores.map_50
    export_onnx(again, tmp_path / "model.onnx", torch.randn(2, 3, shapes.SIDE, shapes.SIDE))
    run = OnnxModel(tmp_path / "model.onnx", threads=1)
    shipped = shapes.scores(lambda pictures: run({"input": pictures.numpy()}))
    assert shipped.mean_average_precision == pytest.approx(kept.mean_average_precision, abs=0.01)


def test_what_cannot_be_built_is_said() -> None:
    for changes, message in (
        ({"depths": (1, 1)}, "2 depths, 3 dims"),
        ({"levels": 4}, "maps of 1 to 3 levels, not of 4"),
        ({"queries": 0}, "at least one query and one decoder stage.*got 0 queries"),
        ({"depth": 0}, r"got 6 queries and stages of \[\]"),
        ({"dim": 10, "heads": 2}, "multiple of 4 channels, got 10"),
        ({"reading": "attention"}, "No part of .* uses the memory"),
    ):
        with pytest.raises(UserError, match=message):
            toy(**changes)(values(1, 3, 64, 64))
    specification = toy().specification
    wider = dataclasses.replace(specification.decoder[1], dim=24)
    with pytest.raises(UserError, match=r"one width and keep the queries; got 6 queries and stages of \[16, 24, 16\]"):
        build_network(
            dataclasses.replace(specification, decoder=(specification.decoder[0], wider, specification.decoder[2]))
        )
    coarser = dataclasses.replace(specification.decoder[0], downsample=part("downsampling", dimensions=1))
    with pytest.raises(UserError, match="keep the queries"):
        build_network(dataclasses.replace(specification, decoder=(coarser,)))
    with pytest.raises(UserError, match="around the place of each query, and queries have none"):
        build_network(dataclasses.replace(specification, anchors=None))


def test_a_part_that_no_longer_asks_for_grids_is_offered_none(tmp_path: Path) -> None:
    model = toy(depth=1)
    edit = replace_part(model, "decoder.0.blocks.0.branches.1.part", part("cross_attention", heads=2))
    model.record_edits([edit])
    assert model.offers == {"memory", "memory_mask"}
    model.float().save_pretrained(tmp_path)
    x = values(1, 3, 64, 64).float()
    again = from_pretrained(tmp_path)
    assert all(torch.equal(again(x)[name], each) for name, each in model(x).items())


def test_what_it_cannot_take_is_said() -> None:
    with pytest.raises(UserError, match=r"\(batch, 3, height, width\), got \(1, 1, 64, 64\)"):
        toy()(values(1, 1, 64, 64))
    with pytest.raises(UserError, match="condition"):
        toy()(values(1, 3, 64, 64), Context(condition=values(1, 4)))


def test_objects_from_answers() -> None:
    logits = torch.tensor([[[9.0, 0, 0], [0, 2.0, 9.0], [0, 9.0, 0]]])
    boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.4], [0.1, 0.1, 0.1, 0.1], [0.25, 0.75, 0.5, 0.5]]])
    (found,) = detections({"classes": logits, "boxes": boxes})
    assert found.classes.tolist() == [0, 1, 1]
    assert found.scores is not None
    assert (np.diff(found.scores) <= 0).all()
    np.testing.assert_allclose(found.boxes[0], [0.4, 0.3, 0.6, 0.7], atol=1e-6)
    (sure,) = detections({"classes": logits, "boxes": boxes}, least_score=0.5)
    assert len(sure.classes) == 2
