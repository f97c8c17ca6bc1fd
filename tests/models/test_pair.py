"""Two inputs are read by one encoder, each as if it were alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from formwright.batch import call
from formwright.data.synthetic.sequences import LabelledSequences, evaluation_sequences
from formwright.deployment import OnnxModel, export_onnx
from formwright.errors import UserError
from formwright.measurement import count_macs, measure
from formwright.models import create_model
from formwright.models.topologies.pair import Pair, PairSpec
from formwright.nn.inputs import ImageInput, Source, TokenInput
from formwright.nn.specification import BlockSpec, BranchSpec, PartSpec, StageSpec, part
from tests.conformance.instances import randomise

SMALL = {"dim": 16, "depth": 1, "heads": 2, "hidden": 8, "vocabulary": 11, "length": 12}


def model() -> Pair:
    torch.manual_seed(0)
    found = create_model("lra_retrieval", **SMALL).double().eval()
    randomise(found, 0)
    assert isinstance(found, Pair)
    return found


def bare(source: Source, embed: PartSpec) -> Pair:
    """A pair without positions, for inputs of any size."""
    norm = part("layer_norm")
    block = BlockSpec((BranchSpec(part("attention", heads=2), norm=norm), BranchSpec(part("mlp"), norm=norm)))
    specification = PairSpec(
        family="test",
        name="test",
        task="test",
        input=source,
        classes=3,
        embed=embed,
        stages=(StageSpec(dim=8, blocks=(block,)),),
        head=part("pair_classifier", hidden=8),
    )
    torch.manual_seed(0)
    found = Pair(specification).double().eval()
    randomise(found, 0)
    return found


def texts(rows: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    first, second = torch.randint(1, 11, (rows, 12), generator=torch.Generator().manual_seed(seed)).chunk(2, dim=1)
    return first, second


def test_each_text_is_read_as_if_it_were_alone() -> None:
    pairs = model()
    first, second = texts()
    first[1, 4:] = 0
    expected = pairs.head(torch.stack([pairs.encode(first), pairs.encode(second)], dim=1))
    torch.testing.assert_close(pairs(first, second), expected)
    for row in range(3):
        torch.testing.assert_close(pairs(first[row : row + 1], second[row : row + 1])[0], expected[row])
    assert not torch.allclose(pairs(second, first), expected), "a - b has a sign"


def test_padding_of_either_text_changes_nothing() -> None:
    pairs = model()
    first, second = texts()
    first[0, 3:] = second[1, 4:] = 0
    before = pairs(first, second)
    with torch.no_grad():
        pairs.backbone.embed.weight[0] += 3
    torch.testing.assert_close(pairs(first, second), before)


def test_texts_of_other_lengths_reach_export_runtime_and_measuring(tmp_path: Path) -> None:
    pairs = bare(TokenInput(11, 6, padding=0), part("token_embedding")).float()
    assert list(pairs.inputs) == ["first", "second"]
    assert count_macs(pairs, pairs.example()) > 0
    assert [line.backend for line in measure(pairs, backends=("onnx",))] == ["onnx"]
    export_onnx(pairs, tmp_path / "model.onnx", pairs.example(2), free=("time", "second_time"))
    exported = OnnxModel(tmp_path / "model.onnx", threads=1)
    assert exported.input_shapes == {"first": (None, None), "second": (None, None)}
    first, second = texts(5)
    second = second[:, :4]
    expected = pairs(first, second).detach().numpy()
    np.testing.assert_allclose(exported.on_tensors({"second": second, "first": first}), expected, rtol=1e-4, atol=1e-5)
    padded = torch.nn.functional.pad(second, (0, 2))
    np.testing.assert_allclose(pairs(first, padded).detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match="takes first, second"):
        exported({"first": first.numpy()})


def test_rows_of_pairs_become_two_inputs() -> None:
    ids = np.arange(24, dtype=np.int16).reshape(2, 12) % 11
    data = LabelledSequences(ids, np.array([0, 1]), 11, 2, None, "made up", pairs=True)
    (batch,) = evaluation_sequences(data, 8)
    assert {name: x.tolist() for name, x in batch.inputs.items()} == {
        "first": ids[:, :6].tolist(),
        "second": ids[:, 6:].tolist(),
    }
    assert call(model(), batch.inputs).shape == (2, 2)


def test_an_odd_number_of_ids_is_no_pair() -> None:
    with pytest.raises(UserError, match="an even number of ids together, not 11; pad one"):
        create_model("lra_retrieval", **{**SMALL, "length": 11})


def test_pictures_of_several_sizes_are_compared() -> None:
    pairs = bare(ImageInput(2, (12, 16), sized=True), part("patch_embedding", kernel=3, stride=2, padding=1))
    assert list(pairs.inputs) == ["first", "second", "first_lengths", "second_lengths"]
    generator = torch.Generator().manual_seed(0)
    one, other = torch.randn(2, 1, 2, 12, 16, generator=generator, dtype=torch.float64)
    sizes = {"first_lengths": torch.tensor([[7, 9]]), "second_lengths": torch.tensor([[12, 16]])}
    alone = pairs(one[:, :, :7, :9], other, **sizes)
    torch.testing.assert_close(pairs(one, other, **sizes), alone)
    with pytest.raises(UserError, match="takes samples of several sizes: give `lengths`"):
        pairs(one, other)


def test_what_is_no_pair_is_refused() -> None:
    pairs = model()
    first, second = texts()
    with pytest.raises(UserError, match="There are 3 first inputs and 2 second ones; give pairs"):
        pairs(first, second[:2])
    with pytest.raises(UserError, match="Pair takes first, second; got a single tensor"):
        call(pairs, first)
    with pytest.raises(UserError, match=r"Expected token ids of shape \(batch, time\), got torch\.float32"):
        pairs(first.float(), second)
