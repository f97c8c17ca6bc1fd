"""Measuring models on every backend."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from torch import nn

from formwright.errors import UserError
from formwright.measurement import latency as latency_module
from formwright.measurement import measurements as module
from formwright.measurement.budget import Budget
from formwright.measurement.measurements import measure


@pytest.fixture(autouse=True)
def _few_repeats(monkeypatch):
    monkeypatch.setattr(
        module, "measure_latency", lambda f: latency_module.measure_latency(f, min_time=0, min_repeats=3, warmup=1)
    )


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    )


def test_every_figure_of_three_backends(network):
    network.train()
    before = torch.get_num_threads()
    results = measure(network, batch=2, size=(16, 20), backends=["eager", "onnx", "onnx-int8"], threads=1)
    assert network.training
    assert torch.get_num_threads() == before
    assert [result.backend for result in results] == ["eager", "onnx", "onnx-int8"]
    for result in results:
        assert result.name == "Sequential"
        assert (result.batch, result.input_size, result.threads) == (2, (16, 20), 1)
        assert result.latency.repeats == 3
        assert result.throughput == pytest.approx(2 / result.latency.median)
        assert result.seconds == result.latency.median
        assert result.parameters == 8 * 27 + 8 + 8 * 4 + 4
        assert result.macs == 16 * 20 * 8 * 27 + 8 * 4  # of one input
        assert result.file_size > result.parameters
        assert (result.peak_memory is None) == (sys.platform != "linux")
        assert json.loads(json.dumps(result.to_json()))["latency"]["median"] == result.seconds
    assert Budget(latency=3600, size=10**6, macs=10**6).met_by(results[0])
    assert Budget(macs=10**4).violations(results[1]) == ["MACs 69.2k is over 10k"]


def test_compiled_backend_runs_the_compiled_model(network, monkeypatch):
    compiled = []

    def compile_with_eager(model):
        compiled.append(model)
        return torch._dynamo.optimize("eager")(model)

    monkeypatch.setattr(torch, "compile", compile_with_eager)
    (result,) = measure(network, size=8, backends=["compile"])
    assert compiled == [network]
    assert result.backend == "compile"


def test_registered_names_and_saved_folders(tmp_path):
    from formwright.models import create_model

    (small,) = measure("poolformer_s12", size=32)
    assert small.name == "poolformer_s12"
    assert small.input_size == (32, 32)

    folder = tmp_path / "mine"
    model = create_model("poolformer_s12", image_size=32, classes=3, dims=(8, 8, 16, 16), depths=(1, 1, 1, 1))
    model.save_pretrained(folder)
    eager, onnx = measure(folder, backends=["eager", "onnx"])
    assert eager.name == "mine"
    assert eager.file_size == (folder / "model.safetensors").stat().st_size

    (folder / "model.onnx").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"model\.onnx is not an ONNX model"):  # the shipped file is the one measured
        measure(folder, backends=["onnx"])
    assert onnx.file_size > onnx.parameters


def test_bad_requests(network):
    with pytest.raises(UserError, match="did you mean eager"):
        measure(network, size=8, backends=["eagre"])
    with pytest.raises(UserError, match="does not say its image size"):
        measure(network)
    with pytest.raises(UserError, match="poolformer"):
        measure("poolfromer_s12")
