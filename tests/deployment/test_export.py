"""Export to ONNX: same answers, any batch, nothing left behind after a failure."""

from __future__ import annotations

import collections

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from formwright.deployment import export as module
from formwright.deployment.export import ExportError, export_onnx
from formwright.deployment.runtime import OnnxModel
from formwright.errors import UserError


def test_gives_the_model_s_answers_at_any_batch(network, tmp_path, capfd):
    network.train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    path = tmp_path / "model.onnx"
    difference = export_onnx(network, path, torch.zeros(1, 3, 16, 16))
    assert difference < 1e-5
    assert capfd.readouterr() == ("", "")  # the exporter's own lines are held back
    assert network.training
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())

    run = OnnxModel(path, threads=1)
    assert run.input_shape == (None, 3, 16, 16)
    x = torch.randn(7, 3, 16, 16)
    with torch.inference_mode():
        expected = network.eval()(x).numpy()
    np.testing.assert_allclose(run(x.numpy()), expected, atol=1e-5)
    np.testing.assert_allclose(run(x.numpy(), batch_size=3), expected, atol=1e-5)


@pytest.mark.parametrize("network", ["convolutions"], indirect=True)
def test_folds_batch_norms_and_leaves_notes_out(network, tmp_path):
    path = tmp_path / "model.onnx"
    export_onnx(network, path, torch.zeros(1, 3, 16, 16))
    model = onnx.load(path)
    operators = collections.Counter(node.op_type for node in model.graph.node)
    assert operators["Conv"] == 4
    assert operators["BatchNormalization"] == 0
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    weights = sum(parameter.numel() for parameter in network.parameters())
    assert path.stat().st_size < 4 * weights + 10_000
    assert str(tmp_path.parent).encode() not in path.read_bytes()


def test_a_fixed_batch_is_filled_up(tmp_path):
    path = tmp_path / "model.onnx"
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
    export_onnx(network, path, torch.zeros(3, 3, 2, 2), dynamic_batch=False)
    run = OnnxModel(path, threads=1)
    assert run.input_shape == (3, 3, 2, 2)
    x = torch.randn(4, 3, 2, 2)
    with torch.inference_mode():
        np.testing.assert_allclose(run(x.numpy()), network(x).numpy(), atol=1e-6)


def test_a_graph_that_answers_otherwise_is_not_written(tmp_path, monkeypatch):
    class Wrong(OnnxModel):
        def __call__(self, x, batch_size=64):
            return super().__call__(x, batch_size) + 0.1

    monkeypatch.setattr(module, "OnnxModel", Wrong)
    path = tmp_path / "model.onnx"
    path.write_bytes(b"the old file")
    with pytest.raises(ExportError, match=r"differs from the original by 0\.1"):
        export_onnx(nn.Sequential(nn.Flatten(), nn.Linear(12, 4)), path, torch.zeros(2, 3, 2, 2))
    assert path.read_bytes() == b"the old file"
    assert list(tmp_path.iterdir()) == [path]


def test_not_a_number_is_a_difference(tmp_path):
    class NotANumber(nn.Module):
        def forward(self, x):
            return x.flatten(1) * float("nan")

    with pytest.raises(ExportError):
        export_onnx(NotANumber(), tmp_path / "model.onnx", torch.zeros(2, 3, 2, 2))


def test_runtime_refuses_what_it_cannot_run(tmp_path, exported):
    with pytest.raises(UserError, match="no ONNX model"):
        OnnxModel(tmp_path / "missing.onnx")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a protobuf")
    with pytest.raises(UserError, match=r"broken\.onnx is not an ONNX model"):
        OnnxModel(broken)
    run = OnnxModel(exported, threads=1)
    with pytest.raises(UserError, match=r"shape \(any, 3, 16, 16\); got \(1, 3, 4, 4\)"):
        run(np.zeros((1, 3, 4, 4), np.float32))
    with pytest.raises(UserError, match=r"got \(0, 3, 16, 16\)"):
        run(np.zeros((0, 3, 16, 16), np.float32))
