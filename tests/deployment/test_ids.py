"""Models of ids: exported, quantised and measured like those of pictures."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from formwright.deployment import OnnxModel, export_onnx, quantize_onnx
from formwright.deployment.export import random_like
from formwright.errors import UserError
from formwright.measurement import measure
from formwright.models import create_model
from formwright.models.language.transformer import encoder


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    torch.manual_seed(0)
    model = create_model(encoder(dim=32, depth=1, heads=2, vocabulary=400, length=16, padding=0, classes=3)).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    path = tmp_path_factory.mktemp("ids") / "model.onnx"
    ids = torch.randint(0, 400, (40, 16))
    ids[:, 12:] = 0
    assert export_onnx(model, path, ids[:1]) < 1e-4
    return model, path, ids


def test_ids_go_in_and_the_same_scores_come_out(exported):
    model, path, ids = exported
    run = OnnxModel(path, threads=1)
    with torch.inference_mode():
        expected = model(ids).numpy()
    np.testing.assert_allclose(run(ids.numpy()), expected, atol=1e-4)
    np.testing.assert_allclose(run(ids.int().numpy()), expected, atol=1e-4)
    np.testing.assert_allclose(run.on_tensors(ids), expected, atol=1e-4)
    with pytest.raises(UserError, match=r"takes arrays of shape \(any, 16\)"):
        run(ids.numpy()[:, :9])


def test_tables_are_stored_in_integers(exported, tmp_path):
    _, path, ids = exported
    found = quantize_onnx(path, tmp_path / "int8.onnx", ids.numpy())
    assert found.error < 0.2
    assert (tmp_path / "int8.onnx").stat().st_size < 0.5 * path.stat().st_size
    table = [tensor for tensor in onnx.load(tmp_path / "int8.onnx").graph.initializer if list(tensor.dims) == [400, 32]]
    assert [tensor.data_type for tensor in table] in ([onnx.TensorProto.UINT8], [onnx.TensorProto.INT8])


def test_noise_of_ids_is_made_of_their_own():
    generator = torch.Generator().manual_seed(0)
    example = torch.tensor([[3, 5, 7]])
    noise = random_like(example, 50, generator)
    assert noise.shape == (50, 3)
    assert set(noise.flatten().tolist()) == {3, 5, 7}
    assert random_like(torch.zeros(1, 2), 4, generator).std() > 0.1


def test_sequences_are_measured_at_the_length_that_is_asked_for():
    (short,) = measure("encoder_tiny", size=16, batch=2, threads=1)
    assert (short.input_size, short.batch) == ((16,), 2)
    (long,) = measure(create_model("encoder_tiny", length=32), threads=1)
    assert long.input_size == (32,)
    assert long.macs > short.macs
