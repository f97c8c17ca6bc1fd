"""Pictures prepared as timm and transformers do it, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn
from PIL import Image

from formwright.data import preprocess
from formwright.data.preprocess import to_array
from formwright.deployment.preparations.image_classification import PicturePreparation
from formwright.errors import UserError
from formwright.models.preprocessing import Preprocessing
from formwright.models.pretrained import read_preprocessing
from formwright.resizing import Resizing

PHOTOS = Path(sklearn.__file__).parent / "datasets/images"
CASES = json.loads((Path(__file__).parent / "prepared_pictures.json").read_text())["cases"]


def photo(name: str) -> Image.Image:
    """A photo that scikit-learn carries; ``cut`` is an upright piece of odd sides."""
    image = Image.open(PHOTOS / name.removesuffix(" cut")).convert("RGB")
    return image.crop((0, 0, 301, 423)) if name.endswith("cut") else image


def prepared(folder: Path, name: str, content: Any) -> Preprocessing | None:
    (folder / name).write_text(json.dumps(content))
    return read_preprocessing(folder, content if name == "config.json" else {})


@pytest.mark.parametrize("name", CASES)
def test_pictures_are_prepared_as_theirs(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    file = "config.json" if name.startswith("timm") else "preprocessor_config.json"
    found = prepared(tmp_path, file, case["config"])
    assert found is not None
    preparation = PicturePreparation(found.size, 3, found.mean, found.std, ("a",), found.resizing)
    for picture, expected in case["pictures"].items():
        array = preparation.apply(photo(picture))
        _, height, width = array.shape
        spots = [array[k % 3, 37 * k % height, 53 * k % width] for k in range(24)]
        np.testing.assert_allclose(array.mean((1, 2)), expected["mean"], atol=1e-4)
        away = np.abs(np.array(spots) - expected["spots"])
        assert away.max() < 1e-4


@pytest.mark.parametrize("halves", ["even", "down"])
@pytest.mark.parametrize("rule", ["short_side", "both_sides"])
def test_of_a_strip_the_same_is_resized_alone(rule: Any, halves: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    resizing = Resizing(rule, "bilinear", 0.8, halves)
    for width, height in random.integers(40, 200, (20, 2)).tolist():
        image = Image.fromarray(random.integers(100, 150, (height, width, 3), dtype=np.uint8))
        with monkeypatch.context() as patch:
            whole_first = to_array(image, (32, 48), 3, resizing).astype(int)
            patch.setattr(preprocess, "_MOST_RESIZED", 0)
            assert np.abs(to_array(image, (32, 48), 3, resizing) - whole_first).max() <= 1


def test_what_we_wrote_is_read_again(tmp_path: Path) -> None:
    resizing = Resizing("short_side", "bilinear", 0.9, "down")
    preparation = PicturePreparation((24, 32), 3, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2), ("a", "b"), resizing)
    preparation.save(tmp_path)
    assert PicturePreparation.load(tmp_path) == preparation
    assert read_preprocessing(tmp_path, {}) == Preprocessing(preparation.mean, preparation.std, (24, 32), resizing)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", {"architecture": "a", "pretrained_cfg": {"mean": [0.5], "std": [0.5], "crop_mode": "border"}}),
        ("config.json", {"architecture": "a", "pretrained_cfg": {"mean": [0.5], "std": [0.5], "crop_pct": 1.2}}),
        (
            "config.json",
            {"architecture": "a", "pretrained_cfg": {"mean": [0.5], "std": [0.5], "interpolation": "best"}},
        ),
        ("config.json", {"architecture": "a", "pretrained_cfg": {"mean": [0.5] * 3}}),
        ("config.json", {"architecture": "a", "pretrained_cfg": {"mean": ["grey"], "std": [0.5]}}),
        ("preprocessor_config.json", {"image_mean": [0.5], "image_std": [0.0]}),
        ("preprocessor_config.json", {"image_mean": 0.5}),
        ("preprocessor_config.json", {"size": 224, "crop_size": 256, "do_center_crop": True}),
        ("preprocessor_config.json", ["no", "object"]),
        ("preprocessing.json", {"task": "image-classification", "mean": [0.5], "std": [0.5]}),
        (
            "preprocessing.json",
            {"task": "image-classification", "mean": [0.5], "std": [0.5], "size": [8, 8], "resizing": {"rule": "trim"}},
        ),
    ],
)
def test_what_cannot_be_done_is_refused(name: str, content: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"{name} does not say how pictures are prepared \("):
        prepared(tmp_path, name, content)


def test_a_saved_preparation_that_resizes_in_no_known_way_is_refused(tmp_path: Path) -> None:
    preparation = PicturePreparation((8, 8), 1, (0.5,), (0.2,), ("a",), Resizing("both_sides", crop=0.5))
    preparation.save(tmp_path)
    path = tmp_path / "preprocessing.json"
    for change in ({"crop": 0}, {"rule": "trim"}, {"interpolation": "best"}, {"more": 1}):
        record = json.loads(path.read_text())
        path.write_text(json.dumps({**record, "resizing": {**record["resizing"], **change}}))
        with pytest.raises(UserError, match=r"does not describe a preparation of pictures: at 'resizing"):
            PicturePreparation.load(tmp_path)
        preparation.save(tmp_path)
