"""Labels and preparation ride in the ONNX file itself."""

from __future__ import annotations

import json

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from formwright.deployment.export import export_onnx
from formwright.deployment.metadata import copy_described
from formwright.deployment.preparations.image_classification import PicturePreparation
from formwright.deployment.runtime import OnnxModel
from formwright.levels import Levels
from formwright.resizing import Resizing


@pytest.fixture
def plain(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).eval()
    export_onnx(model, tmp_path / "plain.onnx", torch.randn(1, 3, 2, 2))
    return tmp_path / "plain.onnx"


PREPARATION = PicturePreparation(
    (2, 2),
    3,
    (0.1, 0.2, 0.3),
    (0.5, 0.5, 0.5),
    ("ça", "dog"),
    Resizing("short_side", "bilinear", 0.9),
    Levels((0, 4095)),
)


def test_a_file_says_how_it_is_used(plain, tmp_path):
    size = copy_described(plain, tmp_path / "model.onnx", PREPARATION)
    assert (tmp_path / "model.onnx").stat().st_size == size > plain.stat().st_size
    entries = onnxruntime.InferenceSession(tmp_path / "model.onnx").get_modelmeta().custom_metadata_map
    assert entries["task"] == "image-classification"
    assert json.loads(entries["labels"]) == ["ça", "dog"]
    PREPARATION.save(tmp_path)
    written = json.loads((tmp_path / "preprocessing.json").read_text())
    assert {"task": entries["task"], "schema_version": 1, **json.loads(entries["preprocessing"])} == written
    assert (written["orientation"], written["levels"]["integers"]) == ("exif", [0, 4095])
    assert written["resizing"] == {"rule": "short_side", "interpolation": "bilinear", "crop": 0.9, "halves": "even"}
    x = np.ones((1, 3, 2, 2), np.float32)
    np.testing.assert_array_equal(OnnxModel(plain)(x), OnnxModel(tmp_path / "model.onnx")(x))


def test_a_budget_that_is_met_without_it_is_met(plain, tmp_path):
    most = plain.stat().st_size + 10
    assert copy_described(plain, tmp_path / "model.onnx", PREPARATION, most=most) == plain.stat().st_size
    assert copy_described(plain, tmp_path / "model.onnx", PREPARATION, most=10) > most
