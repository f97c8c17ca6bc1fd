"""Predictions from an exported folder alone."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from formwright.deployment.classes import Prediction, softmax
from formwright.deployment.prediction import predict
from formwright.deployment.preparations.image_classification import PicturePreparation
from formwright.errors import UserError

LABELS = ("ant", "bee", "cat", "dog", "eel")


@pytest.fixture
def folder(tmp_path, exported):
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    exported.rename(shipped / "model.onnx")
    PicturePreparation(size=(16, 16), channels=3, mean=(0.5,) * 3, std=(0.25,) * 3, labels=LABELS).save(shipped)
    return shipped


@pytest.fixture
def pictures(tmp_path):
    random = np.random.default_rng(0)
    files = []
    for index in range(3):
        path = tmp_path / f"{index}.png"
        Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
        files.append(path)
    return files


@pytest.mark.parametrize("network", ["convolutions"], indirect=True)
def test_gives_the_model_s_probabilities(folder, pictures, network):
    x = torch.stack([torch.from_numpy(np.array(Image.open(file))) for file in pictures]).permute(0, 3, 1, 2)
    with torch.inference_mode():
        expected = torch.softmax(network.eval()((x / 255 - 0.5) / 0.25), -1).numpy()
    found = predict(folder, pictures)
    assert [prediction.file for prediction in found] == [str(file) for file in pictures]
    for prediction, row in zip(found, expected, strict=True):
        assert list(prediction.probabilities) == list(LABELS)
        np.testing.assert_allclose(list(prediction.probabilities.values()), row, atol=1e-5)
        assert prediction.label == LABELS[row.argmax()]
        assert prediction.probability == max(prediction.probabilities.values())
    assert json.loads(json.dumps(found[0].to_json())) == found[0].to_json()


def test_folders_standard_input_and_bad_pictures(folder, pictures, tmp_path, monkeypatch):
    new = tmp_path / "new"
    new.mkdir()
    pictures[0].rename(new / "0.PNG")
    (new / "notes.txt").write_text("no picture")
    assert [one.file for one in predict(folder, new)] == [str(new / "0.PNG")]
    (new / "bad.png").write_bytes(b"\x89PNG")
    with pytest.raises(UserError, match=r"bad\.png"):
        predict(folder, [new])
    given = [new, pictures[1], pictures[1]]
    assert len(predict(folder, given, skip_bad=True)) == 3
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(pictures[1].read_bytes())))
    (answer,) = predict(folder, ["-"])
    assert answer.file == "-"
    assert answer.probabilities == predict(folder, [pictures[1]])[0].probabilities
    with pytest.raises(UserError, match="holds no pictures"):
        predict(folder, [tmp_path / "shipped"])


def test_needs_no_torch(folder, pictures):
    program = (
        "import sys; from formwright.deployment import predict; "
        f"assert len(predict({str(folder)!r}, [{str(pictures[0])!r}])) == 1; sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_bad_input(folder, pictures, tmp_path):
    text = tmp_path / "text.png"
    text.write_text("not a picture")
    with pytest.raises(UserError, match=r"text\.png"):
        predict(folder, [pictures[0], text])
    with pytest.raises(UserError, match="nothing to predict"):
        predict(folder, [])
    with pytest.raises(UserError, match="no folder"):
        predict(tmp_path / "nowhere", pictures)
    PicturePreparation(size=(16, 16), channels=3, mean=(0.5,) * 3, std=(0.25,) * 3, labels=LABELS[:2]).save(folder)
    with pytest.raises(UserError, match="5 values for 2 classes"):
        predict(folder, pictures)
    (folder / "model.onnx").unlink()
    with pytest.raises(UserError, match="no ONNX model"):
        predict(folder, pictures)


def test_softmax_of_large_values():
    np.testing.assert_allclose(softmax(np.float32([[1000, 1000, -1000]])), [[0.5, 0.5, 0]])


def test_function_and_module_do_not_share_a_name():
    import formwright.deployment.prediction
    from formwright import deployment

    assert deployment.predict is predict
    assert deployment.Prediction is Prediction
    assert formwright.deployment.prediction.predict is predict
