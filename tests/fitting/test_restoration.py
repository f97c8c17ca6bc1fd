"""Restoration from the folder to the written picture, and what is said where pictures do not fit."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image, ImageDraw

from formwright.cli import main
from formwright.data.degradation import Degradation
from formwright.data.restoration import holds_pairs, read_restoration
from formwright.deployment import OnnxModel, predict
from formwright.deployment.preparations import restoration
from formwright.errors import UserError
from formwright.fitting import fit
from formwright.metrics.restoration import psnr_and_ssim


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


def test_from_clean_pictures_to_a_restored_one(tmp_path, short_runs, monkeypatch):
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
    assert result.test["psnr"] > bicubic.score - 0.5  # a few steps on a busy machine: not worse by much
    assert 0 < result.test["ssim"] <= 1
    page = (tmp_path / "run" / "report.html").read_text()
    for words in ("Before, after and truth", ">before<", ">after<", ">truth<", "bicubic"):
        assert words in page, words
    model = OnnxModel(tmp_path / "run" / "model.onnx")
    assert model.input_shape == (None, 3, None, None)
    drawn(99, width=71, height=45).save(tmp_path / "new.png")
    (whole,) = predict(tmp_path / "run", [tmp_path / "new.png"])
    assert whole.pixels.shape == (90, 142, 3)
    monkeypatch.setattr(restoration, "TILE", 20)
    (answer,) = predict(tmp_path / "run", [tmp_path / "new.png"], out=tmp_path / "restored")
    written = np.asarray(Image.open(tmp_path / "restored" / "new.png"))
    assert written.shape == (90, 142, 3)
    assert np.abs(written.astype(int) - whole.pixels).max() <= 1  # no seams: tiles see all that a pixel depends on
    (row,) = csv.DictReader((tmp_path / "restored" / "pictures.csv").open())
    assert (row["before"], row["after"]) == ("71 x 45", "142 x 90")
    assert answer.to_json()["width"] == 142


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
