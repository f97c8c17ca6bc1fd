"""The description of a model's input."""

from __future__ import annotations

import json

import numpy as np
import pydantic
import pytest
import torch
from PIL import Image

from formwright.data.batches import normalise
from formwright.deployment.preparations.image_classification import PicturePreparation
from formwright.errors import UserError


@pytest.fixture
def colour() -> PicturePreparation:
    return PicturePreparation(
        size=(6, 4), channels=3, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.5), labels=("cat", "dog")
    )


def test_normalises_each_channel(colour):
    array = colour.apply(Image.new("RGB", (4, 6), (255, 0, 51)))
    assert array.shape == (3, 6, 4)
    assert array.dtype == np.float32
    np.testing.assert_allclose(array[:, 2, 3], [2.5, -1.6, -0.2], atol=1e-6)


def test_is_what_training_sees(colour):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 4, 3), dtype=np.uint8)
    expected = normalise(torch.from_numpy(pixels), colour.mean, colour.std).numpy()
    np.testing.assert_allclose(colour.normalise(pixels), expected, atol=1e-5)


def test_pictures_of_any_size_and_mode_fit(colour, tmp_path):
    path = tmp_path / "wide.png"
    Image.new("L", (90, 30), 128).save(path)
    np.testing.assert_array_equal(colour.read(path), colour.apply(Image.new("RGB", (4, 6), (128, 128, 128))))
    grey = PicturePreparation(size=(8, 8), channels=1, mean=(0.0,), std=(1.0,), labels=("a",))
    assert grey.read(path).shape == (1, 8, 8)


def test_saved_and_loaded(colour, tmp_path):
    colour.save(tmp_path)
    assert PicturePreparation.load(tmp_path) == colour
    assert json.loads((tmp_path / "preprocessing.json").read_text())["labels"] == ["cat", "dog"]


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"size": [0, 4]}, "size.0"),
        ({"std": [0.1, 0.0, 0.1]}, "std.1"),
        ({"labels": []}, "labels"),
        ({"channels": 2}, "1 (grey) or 3 (RGB) is expected"),
        ({"mean": [0.5]}, "3 channels need as many means"),
        ({"schema_version": 2}, "schema_version"),
        ({"colour": "blue"}, "colour"),
    ],
)
def test_says_what_is_wrong_in_the_file(colour, tmp_path, change, place):
    colour.save(tmp_path)
    path = tmp_path / "preprocessing.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UserError, match="does not describe a preparation of pictures") as caught:
        PicturePreparation.load(tmp_path)
    assert place in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"preprocessing\.json"):
        PicturePreparation.load(tmp_path)


def test_checked_when_built():
    with pytest.raises(pydantic.ValidationError):
        PicturePreparation(size=(6, 4), channels=3, mean=(0.5,), std=(0.2,), labels=("cat",))
