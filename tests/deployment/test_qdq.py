"""Quantised layers are stored as integers, and ONNX Runtime gives what the model simulates."""

from __future__ import annotations

import collections
import functools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from formwright.compression import quantise
from formwright.deployment import export_onnx
from formwright.deployment.runtime import OnnxModel
from formwright.measurement.size import model_bytes
from formwright.models import Model, create_model
from formwright.nn.edits import permute_entries
from formwright.nn.layers import Quantised
from formwright.objectives import Batch

INTEGERS = {onnx.TensorProto.INT8, onnx.TensorProto.UINT8, onnx.TensorProto.INT4, onnx.TensorProto.UINT4}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("vit_tiny_patch16_224", {"dim": 64, "depth": 1, "heads": 2, "image_size": 32, "classes": 5}),
    "poolformer": (
        "poolformer_s12",
        {"depths": (1, 1), "dims": (48, 64), "mixers": ("pooling",) * 2, "positions": (False,) * 2, "image_size": 32},
    ),
    "convnext": ("convnext_tiny", {"depths": (1, 1), "dims": (48, 64), "image_size": 32}),
    "gpt2": ("gpt2", {"dim": 64, "depth": 1, "heads": 2, "vocabulary": 11, "length": 12}),
    "mamba": ("mamba_130m", {"dim": 64, "depth": 1, "states": 4, "vocabulary": 11, "length": 12}),
}


def family(name: str) -> Model:
    torch.manual_seed(0)
    variant, options = FAMILIES[name]
    return create_model(variant, **options).eval()


def example(model: Model, batch: int = 2, seed: int = 1) -> torch.Tensor:
    torch.manual_seed(seed)
    return model.specification.input.example(batch)


@functools.cache
def float_bytes(name: str, folder: Path) -> int:
    model = family(name)
    export_onnx(model, folder / f"{name}.onnx", example(model))
    return (folder / f"{name}.onnx").stat().st_size


@pytest.fixture(scope="module")
def floats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("floats")


def differences(model: Model, path: Path) -> tuple[float, float]:
    """Largest difference over the largest output, and the root of the mean square over the deviation."""
    x = example(model, 3, seed=2)
    with torch.inference_mode():
        expected = model(x).numpy()
    difference = OnnxModel(path, threads=1)(x.numpy()) - expected
    return float(np.abs(difference).max() / np.abs(expected).max()), float(difference.std() / expected.std())


def stored(path: Path) -> collections.Counter[int]:
    """How many integers of each type are stored behind a DequantizeLinear."""
    graph = onnx.load(path).graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    weights = {node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"} & set(tensors)
    counts: collections.Counter[int] = collections.Counter()
    for name in weights:
        counts[tensors[name].data_type] += int(np.prod(tensors[name].dims))
    return counts


def weights(model: Model) -> int:
    return sum(module.weight.numel() for module in model.modules() if isinstance(module, Quantised))


@pytest.mark.parametrize("name", FAMILIES)
def test_weights_of_8_and_4_bits_are_stored_as_such(name: str, tmp_path: Path, floats: Path) -> None:
    model, path = family(name), tmp_path / "model.onnx"
    eight, four = quantise(model, bits=8), quantise(model, bits=4, granularity="group", group=32)
    sizes, whole = {}, float_bytes(name, floats)
    for quantised, kind in ((eight, onnx.TensorProto.INT8), (four, onnx.TensorProto.INT4)):
        assert export_onnx(quantised, path, example(model)) < 1e-4
        assert differences(quantised, path)[0] < 1e-5
        assert stored(path) == {kind: weights(quantised)}
        sizes[kind] = path.stat().st_size
        assert model_bytes(model) - model_bytes(quantised) == pytest.approx(whole - sizes[kind], rel=0.1)
    saved = whole - sizes[onnx.TensorProto.INT8]
    assert saved > 2.8 * weights(eight), "three of four bytes go, but for scales and nodes"
    assert sizes[onnx.TensorProto.INT8] - sizes[onnx.TensorProto.INT4] > 0.3 * weights(eight)


FORMS: dict[str, tuple[dict[str, Any], int]] = {
    "unsigned": ({"bits": 8, "symmetric": False}, onnx.TensorProto.UINT8),
    "one-scale": ({"bits": 8, "granularity": "tensor"}, onnx.TensorProto.INT8),
    "groups-of-8-bits": ({"bits": 8, "granularity": "group", "group": 24}, onnx.TensorProto.INT8),
    "unsigned-4-bits": ({"bits": 4, "symmetric": False}, onnx.TensorProto.UINT4),
    "uneven-groups": ({"bits": 4, "granularity": "group", "group": 24, "symmetric": False}, onnx.TensorProto.UINT4),
}


@pytest.mark.parametrize(("options", "kind"), FORMS.values(), ids=FORMS.keys())
def test_every_form_of_8_and_4_bits(options: dict[str, Any], kind: int, tmp_path: Path) -> None:
    quantised, path = quantise(family("convnext"), **options), tmp_path / "model.onnx"
    export_onnx(quantised, path, example(quantised))
    assert differences(quantised, path)[0] < 1e-5
    assert stored(path) == {kind: weights(quantised)}


@pytest.mark.parametrize("bits", [2, 5])
def test_other_bits_are_simulated(bits: int, tmp_path: Path) -> None:
    quantised, path = quantise(family("vit"), bits=bits), tmp_path / "model.onnx"
    assert {m.deployed_form for m in quantised.modules() if isinstance(m, Quantised)} == {"simulated"}
    export_onnx(quantised, path, example(quantised))
    assert differences(quantised, path)[0] < 1e-5
    assert not stored(path)
    assert path.stat().st_size > 4 * weights(quantised)


def test_groups_that_were_permuted_are_simulated(tmp_path: Path) -> None:
    quantised, path = quantise(family("vit"), bits=4, granularity="group", group=16), tmp_path / "model.onnx"
    order = torch.randperm(256, generator=torch.Generator().manual_seed(0)).tolist()
    permute_entries(quantised, "backbone.stages.0.blocks.0.branches.1.part", "hidden", order)
    layer = quantised.get_submodule("backbone.stages.0.blocks.0.branches.1.part.fc2")
    assert isinstance(layer, Quantised)
    assert layer.deployed_form == "simulated"
    export_onnx(quantised, path, example(quantised))
    assert differences(quantised, path)[0] < 1e-5
    assert stored(path) == {onnx.TensorProto.INT4: weights(quantised) - layer.weight.numel()}


def calibrated(name: str, **options: Any) -> Model:
    model = family(name)
    return quantise(model, [Batch(example(model, 8), torch.zeros(8))], **options)


def operators(path: Path) -> collections.Counter[str]:
    return collections.Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.mark.parametrize("name", ["poolformer", "gpt2"])
@pytest.mark.parametrize("activations", [8, 4, {"bits": 8, "symmetric": True}], ids=str)
def test_activations_stand_between_quantize_and_dequantize(name: str, activations: Any, tmp_path: Path) -> None:
    quantised, path = calibrated(name, bits=8, activations=activations), tmp_path / "model.onnx"
    export_onnx(quantised, path, example(quantised))
    assert differences(quantised, path)[1] < 0.05
    layers = sum(isinstance(module, Quantised) for module in quantised.modules())
    assert operators(path)["QuantizeLinear"] == layers
    assert operators(path)["DequantizeLinear"] == 2 * layers


@pytest.mark.parametrize("activations", [6, {"bits": 8, "granularity": "channel"}], ids=str)
def test_other_activations_are_simulated(activations: Any, tmp_path: Path) -> None:
    quantised, path = calibrated("poolformer", bits=8, activations=activations), tmp_path / "model.onnx"
    export_onnx(quantised, path, example(quantised))
    assert differences(quantised, path)[1] < 0.05
    assert operators(path)["QuantizeLinear"] == 0
    assert operators(path)["Round"] > 0


def test_values_inside_parts_are_rounded_too(tmp_path: Path) -> None:
    quantised, path = calibrated("gpt2", activations=8, taps=("*:queries", "*:keys")), tmp_path / "model.onnx"
    export_onnx(quantised, path, example(quantised))
    assert differences(quantised, path)[1] < 0.05
    layers = sum(isinstance(module, Quantised) for module in quantised.modules())
    assert operators(path)["QuantizeLinear"] == layers + 2


def test_a_model_is_exported_as_it_is_and_stays_so(tmp_path: Path) -> None:
    quantised = calibrated("gpt2", activations=8)
    before = {name: tensor.clone() for name, tensor in quantised.state_dict().items()}
    x = example(quantised)
    with torch.inference_mode():
        expected = quantised(x)
        export_onnx(quantised, tmp_path / "model.onnx", x)
        assert torch.equal(quantised(x), expected)
    assert all(torch.equal(before[name], tensor) for name, tensor in quantised.state_dict().items())
