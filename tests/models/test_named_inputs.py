"""Inputs by name: lengths that give masks, free axes in exports, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from formwright.batch import call
from formwright.deployment.export import export_onnx
from formwright.deployment.quantize import quantize_onnx
from formwright.deployment.runtime import OnnxModel
from formwright.errors import UserError
from formwright.measurement import count_macs, measure
from formwright.models import Chain, create_model, from_pretrained
from formwright.nn.context import Context
from formwright.nn.inputs import ImageInput, Source, TokenInput, VectorInput
from formwright.nn.specification import BlockSpec, BranchSpec, ChainSpec, PartSpec, StageSpec, part

_NORM = part("layer_norm")
_BLOCK = BlockSpec((BranchSpec(part("attention", heads=2), norm=_NORM), BranchSpec(part("mlp"), norm=_NORM)))


def chain(source: Source, embed: PartSpec, **options: object) -> Chain:
    torch.manual_seed(0)
    specification = ChainSpec(
        family="test",
        name="test",
        task="test",
        input=source,
        classes=3,
        embed=embed,
        stages=(StageSpec(dim=8, blocks=(_BLOCK,)),),
        head=part("classifier", norm=_NORM, **options),
    )
    model = Chain(specification).double().eval()
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return model


IMAGES = ImageInput(2, (12, 16), sized=True)
#: Overlapping patches: those at the border of a picture see its padding.
PATCHES = part("patch_embedding", kernel=3, stride=2, padding=1)


def test_pictures_of_several_sizes_give_what_they_give_alone() -> None:
    model = chain(IMAGES, PATCHES)
    sizes = torch.tensor([[12, 16], [7, 9], [4, 16]])
    pictures = torch.randn(3, 2, 12, 16).double()
    together = model(pictures, lengths=sizes)
    for index, (height, width) in enumerate(sizes.tolist()):
        alone = model(pictures[index : index + 1, :, :height, :width], lengths=sizes[index : index + 1])
        torch.testing.assert_close(together[index : index + 1], alone)
    with pytest.raises(UserError, match="give `lengths` beside the input"):
        model(pictures)
    with pytest.raises(UserError, match="Lengths of 1 axes were given for samples of 2"):
        model(pictures, lengths=torch.tensor([3, 4, 5]))
    for wrong in ([[12, 16], [7, 9], [4, 17]], [[12, 16], [7, 9], [-1, 16]]):
        with pytest.raises(UserError, match="Lengths lie between 0 and the size of the batch, 12 x 16; got"):
            model(pictures, lengths=torch.tensor(wrong))
    with pytest.raises(UserError, match="There are 3 samples and 1 lengths; give one per sample"):
        model(pictures, lengths=sizes[:1])
    with pytest.raises(UserError, match=r"Lengths are whole numbers, one per sample and axis, and got torch\.float32"):
        model(pictures, lengths=sizes.float())
    with pytest.raises(UserError, match="Chain takes input, lengths; got a single tensor"):
        call(model, pictures)
    with pytest.raises(UserError, match="Chain takes input, lengths; got input, length"):
        call(model, {"input": pictures, "length": sizes})


@pytest.mark.parametrize(
    ("source", "embed"),
    [
        (VectorInput(4, 10, sized=True), part("frame_convolutions", layers=2)),
        (TokenInput(9, 10, sized=True), part("token_embedding")),
    ],
)
def test_rows_of_several_lengths_give_what_they_give_alone(source: Source, embed: PartSpec) -> None:
    model = chain(source, embed)
    lengths = torch.tensor([10, 3, 7])
    rows = source.example(3)
    rows = rows.double() if rows.is_floating_point() else rows
    together = model(rows, lengths=lengths)
    for index, length in enumerate(lengths.tolist()):
        alone = model(rows[index : index + 1, :length], lengths=lengths[index : index + 1])
        torch.testing.assert_close(together[index : index + 1], alone)


def test_named_inputs_reach_export_runtime_quantisation_and_measuring(tmp_path: Path) -> None:
    model = chain(IMAGES, PATCHES).float()
    example = model.example(2)
    assert list(example) == ["input", "lengths"]
    assert count_macs(model, example) > 0
    path = tmp_path / "model.onnx"
    assert export_onnx(model, path, example, free=("height", "width")) < 1e-4
    exported = OnnxModel(path)
    assert exported.input_shapes == {"input": (None, 2, None, None), "lengths": (None, 2)}
    given = {"input": torch.randn(5, 2, 9, 11), "lengths": torch.tensor([[9, 11], [1, 1], [5, 2], [9, 3], [4, 11]])}
    with torch.inference_mode():
        expected = call(model, given).numpy()
    np.testing.assert_allclose(exported.on_tensors(given), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match="takes input, lengths; got input"):
        exported({"input": given["input"].numpy()})
    with pytest.raises(UserError, match="takes input, lengths; give a mapping"):
        exported(given["input"].numpy())
    rows = {"input": np.zeros((3, 2, 9, 11), np.float32), "lengths": np.ones((2, 2), np.int64)}
    with pytest.raises(UserError, match="got 3 of 'input', 2 of 'lengths'"):
        exported(rows)
    with pytest.raises(UserError, match="No input has an axis named 'depth'; these may be free: batch, height, width"):
        export_onnx(model, path, example, free=("depth",))
    with pytest.raises(UserError, match="takes no input named 'sizes'"):
        export_onnx(model, path, {"input": example["input"], "sizes": example["lengths"]})
    fixed = tmp_path / "fixed.onnx"
    export_onnx(model, fixed, example)
    calibration = {name: tensor.numpy() for name, tensor in model.example(8).items()}
    error = quantize_onnx(fixed, tmp_path / "int8.onnx", calibration).error
    assert 0 < error < 0.5
    (line,) = measure(model, backends=("onnx",))
    assert line.input_size == (12, 16)
    model.save_pretrained(tmp_path)
    assert torch.equal(call(from_pretrained(tmp_path), given), call(model, given))


def test_features_of_named_inputs() -> None:
    model = chain(IMAGES, PATCHES)
    example = {"input": torch.randn(2, 2, 12, 16).double(), "lengths": torch.tensor([[12, 16], [5, 6]])}
    (maps,) = model.features(example)
    assert maps.shape == (2, 6, 8, 8)


def test_a_part_that_would_take_padding_for_real_tokens_is_refused_when_the_model_is_built() -> None:
    specification = chain(IMAGES, PATCHES).specification
    blind = BlockSpec((BranchSpec(part("spatial_linear"), norm=_NORM),))
    stages = (StageSpec(dim=8, blocks=(blind,)),)
    with pytest.raises(UserError, match=r"has padding, which SpatialLinear \(backbone\.stages\.0"):
        Chain({**specification.to_dict(), "stages": [dict(stage) for stage in map(vars, stages)]})


def test_what_a_network_is_told_is_taken_by_a_part_of_it() -> None:
    model, x = chain(ImageInput(2, (12, 16)), PATCHES), torch.randn(1, 2, 12, 16).double()
    for offer in ("memory", "condition"):
        with pytest.raises(UserError, match=f"No part of Chain uses {offer} of the context, so it would change"):
            model(x, Context(**{offer: torch.zeros(1, 3, 8).double()}))
    with pytest.raises(UserError, match="PatchEmbedding does not use segments of the context, and ignoring it would"):
        model(x, Context(segments=torch.zeros(1, 48, dtype=torch.int64)))


def test_inputs_that_may_be_left_out_do_not_keep_a_model_from_being_measured() -> None:
    model = create_model("bert_tiny", vocabulary=11, dim=8, depth=1, heads=2, length=12).eval()
    (line,) = measure(model, size=6)
    assert line.input_size == (6,)
    pair = create_model("lra_retrieval", dim=8, depth=1, heads=2, hidden=8, vocabulary=11, length=12).eval()
    with pytest.raises(UserError, match="takes several inputs and is measured at its own size"):
        measure(pair, size=3)
    encoder = create_model("series_encoder_1k", heads=2, patch=4, components=2, length=6).eval()
    with pytest.raises(UserError, match="has a size of its own alone; leave the size out"):
        measure(encoder, size=3)
