"""Restoration from the folder to the written picture, and what is said where pictures do not fit."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from formwright.cli import main
from formwright.data.degradation import Degradation
from formwright.data.restoration import holds_pairs, read_restoration
from formwright.deployment import OnnxModel, export_onnx, predict
from formwright.deployment.preparations import restoration
from formwright.deployment.preparations.restoration import RestorationPreparation
from formwright.errors import UserError
from formwright.fitting import fit
from formwright.metrics.restoration import psnr_and_ssim
from formwright.models import create_model


def drawn(seed: int, width: int = 96, height: int = 96) -> Image.Image:
    """Discs and boxes, drawn four times as large and reduced."""
    random = np.random.default_rng(seed)
    image = Image.new("RGB", (4 * width, 4 * height), "white")
    draw = ImageDraw.Draw(image)
    for number in range(20):
        corner, size = random.integers(-40, 4 * width, 2), random.integers(20, 2 * width, 2)
        box, colour = [*corner.tolist(), *(corner + size).tolist()], tuple(random.integers(0, 256, 3).tolist())
        (draw.ellipse if number % 2 else draw.rectangle)(box, fill=colour)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def save(folder, count: int = 8, **size) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        drawn(number, **size).save(folder / f"picture-{number}.png")


def test_from_clean_pictures_to_a_restored_one(tmp_path, short_runs):
    save(tmp_path / "clean")
    result = fit(
        tmp_path / "clean",
        out=tmp_path / "run",
        task="restoration",
        scale=2,
        max_time=20,
        threads=1,
        degradation="bicubic",
    )
    assert result.agreement.same_answer == 1.0
    bicubic = next(rival for rival in result.baselines if rival.name == "bicubic")
    assert result.test["psnr"] > bicubic.score  # it starts there, and few steps suffice to be better
    assert 0 < result.test["ssim"] <= 1
    page = (tmp_path / "run" / "report.html").read_text()
    for words in ("Before, after and truth", ">before<", ">after<", ">truth<", "bicubic"):
        assert words in page, words
    assert OnnxModel(tmp_path / "run" / "model.onnx").input_shape == (None, 3, None, None)
    drawn(99, width=71, height=45).save(tmp_path / "new.png")
    (answer,) = predict(tmp_path / "run", [tmp_path / "new.png"])
    assert answer.pixels.shape == (90, 142, 3)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """A folder as ``fit`` ships it, of a network with weights that are not zero."""
    folder = tmp_path_factory.mktemp("shipped")
    torch.manual_seed(0)
    model = create_model("espcn_x2", dims=(8, 4), skip=True, channels=3, image_size=16)
    torch.nn.init.normal_(model.get_parameter("head.conv.weight"), std=0.02)
    export_onnx(model, folder / "model.onnx", torch.rand(1, 3, 16, 16), free=("height", "width"))
    RestorationPreparation(channels=3, scale=2).save(folder)
    return folder


@pytest.mark.parametrize(("width", "height"), [(71, 45), (12, 61)])
def test_pictures_of_any_size_are_restored_tile_by_tile(shipped, tmp_path, monkeypatch, width, height):
    drawn(99, width, height).save(tmp_path / "new.png")
    (whole,) = predict(shipped, [tmp_path / "new.png"])
    monkeypatch.setattr(restoration, "TILE", 20)
    (answer,) = predict(shipped, [tmp_path / "new.png"], out=tmp_path / "restored")
    written = np.asarray(Image.open(tmp_path / "restored" / "new.png"))
    assert written.shape == whole.pixels.shape == (2 * height, 2 * width, 3)
    assert np.abs(written.astype(int) - whole.pixels).max() <= 1  # no seams: tiles see all that a pixel depends on
    (row,) = csv.DictReader((tmp_path / "restored" / "pictures.csv").open())
    assert (row["before"], row["after"]) == (f"{width} x {height}", f"{2 * width} x {2 * height}")
    assert (answer.to_json()["width"], answer.pixels) == (2 * width, None)


def test_it_is_told_what_was_written(shipped, tmp_path, capsys):
    for folder in ("a", "b"):
        save(tmp_path / folder, 2, width=12, height=12)
    given = [str(path) for folder in ("a", "b") for path in sorted((tmp_path / folder).iterdir())]
    with pytest.raises(SystemExit) as raised:
        main(["predict", str(shipped), *given, "--out", str(tmp_path / "out")])
    assert raised.value.code == 0
    assert "4 restored pictures written to" in " ".join("".join(capsys.readouterr()).split())
    names = ["picture-0-2.png", "picture-0.png", "picture-1-2.png", "picture-1.png", "pictures.csv"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names


def test_nothing_is_written_on_a_mistake(shipped, tmp_path, capsys):
    save(tmp_path / "a", 2, width=12, height=12)
    given = [str(path) for path in sorted((tmp_path / "a").iterdir())]
    (tmp_path / "broken.png").write_bytes(b"no picture")
    before = {path: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    for inputs, out, words in (
        ([*given, str(tmp_path / "broken.png")], tmp_path / "out", "broken.png"),
        (given, tmp_path / "a", "would be overwritten; name another folder"),
        (given, tmp_path / "broken.png", "is a file; restored pictures are written into a folder"),
    ):
        with pytest.raises(SystemExit) as raised:
            main(["predict", str(shipped), *inputs, "--out", str(out)])
        assert raised.value.code == 2
        assert words in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()
    assert {path: path.read_bytes() for path in (tmp_path / "a").iterdir()} == before


def test_pairs_tell_the_scale_and_are_recognised(tmp_path):
    from formwright.fitting.task import find_task

    save(tmp_path / "high", 4)
    save(tmp_path / "low", 4, width=32, height=32)
    found, reason = find_task(tmp_path, None, {})
    assert (found.name, reason) == ("restoration", "pairs of poor and clean pictures")
    data = read_restoration(tmp_path)
    assert (data.scale, len(data.high), data.low[0].shape) == (3, 4, (32, 32, 3))
    assert sorted(np.concatenate(list(data.parts.values()))) == [0, 1, 2, 3]


@pytest.mark.parametrize("paired", [False, True])
def test_parts_that_are_given_are_kept(tmp_path, paired):
    pictures = {"train": range(6), "test": (0, 10, 11)}  # test shares picture 0
    for part, seeds in pictures.items():
        for name, side in (("high", 96), ("low", 48)) if paired else (("", 96),):
            (tmp_path / part / name).mkdir(parents=True)
            for seed in seeds:
                drawn(seed, side, side).save(tmp_path / part / name / f"{seed}.png")
    assert holds_pairs(tmp_path) == paired
    data = read_restoration(tmp_path)
    names = {part: {data.names[i] for i in rows} for part, rows in data.parts.items()}
    assert names["test"] == {"test/0", "test/10", "test/11"}
    assert len(names["val"]) == 1
    assert names["train"] | names["val"] == {f"train/{seed}" for seed in range(1, 6)}
    assert data.notes == ("0.png is a copy of another picture and was left out.",)
    assert data.scale == 2


def bad_folders(root):
    """A folder, the options that it is given with, and words of the sentence that answers."""
    save(root / "odd", 3, width=97)
    save(root / "few", 2)
    save(root / "small", 3, width=16, height=16)
    for name in ("alone", "unequal"):
        save(root / name / "high", 3)
        save(root / name / "low", 3, width=48, height=48)
    save(root / "parted" / "train" / "high", 3)
    save(root / "parted" / "train" / "low", 3, width=48, height=48)
    save(root / "parted" / "test", 3)
    for name in ("train", "training"):
        save(root / "twice" / name, 3)
    (root / "alone" / "low" / "picture-1.png").unlink()
    drawn(1, width=40, height=48).save(root / "unequal" / "low" / "picture-1.png")
    return [
        ("odd", [], "97 x 96 pixels, which a scale of 2 does not divide"),
        ("few", [], "2 different pictures to train on; 3 at least"),
        ("small", [], "sides of 32"),
        ("few", ["--scale", "1"], "Nothing is to be restored"),
        ("few", ["--scale", "9"], "from 1 to 8"),
        ("few", ["--degradation", "sepia"], "not by 'sepia'"),
        ("few", ["--degradation", "noise=x"], "needs a number"),
        ("alone", [], "no partner, such as high/picture-1"),
        ("unequal", [], "40 x 48 and 96 x 96"),
        ("unequal", ["--scale", "3"], "48 x 48 and 96 x 96 pixels; 3 times as many per side"),
        ("alone", ["--degradation", "noise=5"], "leave --degradation out"),
        ("parted", [], "test lacks the folders low and high"),
        ("twice", [], "train and training for the same part"),
        ("missing", [], "There is no folder"),
    ]


def test_what_cannot_be_learned_from_is_told_in_a_sentence(tmp_path, capsys):
    for folder, options, words in bad_folders(tmp_path):
        out = tmp_path / "run"
        with pytest.raises(SystemExit) as raised:
            main(["fit", str(tmp_path / folder), "--task=restoration", "--max-time=60s", f"--out={out}", *options])
        message = " ".join(capsys.readouterr().err.split())
        assert raised.value.code == 2, (folder, message)
        assert words in message
        assert not out.exists()


def test_a_degradation_is_what_it_says():
    clean = np.asarray(drawn(0))
    noisy = Degradation.parse("noise=25", 1).apply(np.full((200, 200, 1), 128, np.uint8), 0)
    assert noisy.std() == pytest.approx(25, rel=0.03)
    assert Degradation.parse("blur=2,jpeg=30", 3).apply(clean, 0).shape == (32, 32, 3)
    assert str(Degradation.parse("jpeg=30,blur=2", 2)) == "bicubic x2, blur 2, jpeg 30"
    with pytest.raises(UserError, match="jpeg=0"):
        Degradation.parse("jpeg=0", 2)


def test_psnr_is_that_of_the_luma():
    true = np.full((1, 3, 32, 32), 100 / 255, np.float32)
    other = true + np.float32(10 / 255)
    expected = 20 * np.log10(255 / (10 * 219 / 255))
    psnr, ssim = psnr_and_ssim(other, true)
    assert psnr == pytest.approx(expected, abs=1e-3)
    assert psnr_and_ssim(true, true) == (100.0, pytest.approx(1.0))
    other[:, :, :2] = 0
    assert psnr_and_ssim(other, true, border=2)[0] == pytest.approx(expected, abs=1e-3)
    assert 0.9 < ssim < 1
