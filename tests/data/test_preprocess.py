"""The rule from a picture file to an array."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from formwright.data.preprocess import (
    PictureError,
    open_picture,
    read_picture,
    readable_formats,
    readable_suffixes,
    to_array,
    upright_size,
)
from formwright.errors import UserError
from formwright.resizing import LARGEST_BOX

RANDOM = np.random.default_rng(0)
COLOUR = RANDOM.integers(0, 256, (10, 14, 3), dtype=np.uint8)
SMOOTH = np.asarray(Image.fromarray(COLOUR).resize((1200, 900), Image.Resampling.BICUBIC))


def test_a_picture_of_the_right_size_passes_unchanged():
    np.testing.assert_array_equal(to_array(Image.fromarray(COLOUR), (10, 14), 3), COLOUR)


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB", "I;16", "I", "F"]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_becomes_eight_bits(mode, channels):
    image = Image.new("F", (9, 7), 0.5) if mode == "F" else Image.new(mode, (9, 7))
    array = to_array(image, (8, 8), channels)
    assert array.shape == (8, 8, channels)
    assert array.dtype == np.uint8


def test_grey_asked_of_colour_is_pillow_luminance():
    expected = np.asarray(Image.fromarray(COLOUR).convert("L"))[..., None]
    np.testing.assert_array_equal(to_array(Image.fromarray(COLOUR), (10, 14), 1), expected)


def test_transparency_is_laid_over_white():
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0, 0] = (10, 20, 30, 255)
    pixels[1, 1] = (0, 0, 0, 128)
    array = to_array(Image.fromarray(pixels), (2, 2), 3)
    assert array[0, 0].tolist() == [10, 20, 30]
    assert array[0, 1].tolist() == [255, 255, 255]
    assert abs(int(array[1, 1, 0]) - 127) <= 1


def test_a_transparent_palette_colour_becomes_white():
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 200, 100, 50])
    image.putpixel((1, 0), 1)
    file = io.BytesIO()
    image.save(file, "PNG", transparency=0)
    assert read_picture(file, (1, 2), 3).pixels.tolist() == [[[255, 255, 255], [200, 100, 50]]]


def test_cmyk_keeps_its_colours():
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 30, 60)).convert("CMYK").save(file, "JPEG", quality=100, subsampling=0)
    np.testing.assert_allclose(read_picture(file, (16, 16), 3).pixels[8, 8], [200, 30, 60], atol=3)


def test_sixteen_bits_are_scaled_not_cut():
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    assert read_picture(file, (1, 4), 1).pixels.ravel().tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize("values", [[[-0.1, 0.5]], [[0.0, 7.0]]])
def test_floats_outside_0_to_1_are_refused(values):
    with pytest.raises(UserError, match="0 to 1 is expected"):
        to_array(Image.fromarray(np.array(values, np.float32)), (1, 2), 1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied(orientation):
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    upright = Image.fromarray(COLOUR)
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    stored.save(file, "PNG", exif=exif)
    with open_picture(file) as image:
        assert upright_size(image) == (10, 14)
    picture = read_picture(file, (10, 14), 3)
    np.testing.assert_array_equal(picture.pixels, COLOUR)
    assert picture.native_size == (10, 14)


@pytest.mark.parametrize(
    ("source", "target", "box"),
    [
        ((100, 50), (10, 10), (25, 0, 75, 50)),
        ((50, 100), (10, 10), (0, 25, 50, 75)),
        ((50, 101), (10, 10), (0, 25.5, 50, 75.5)),
        ((30, 20), (60, 40), (0, 0, 30, 20)),
        ((1, 1), (7, 3), (0, 2 / 7, 1, 5 / 7)),
    ],
)
def test_the_largest_centred_box_is_taken(source, target, box):
    assert LARGEST_BOX.kept(source, target) == pytest.approx(box)


def test_the_box_always_lies_within_the_picture():
    for source in RANDOM.integers(1, 500, (200, 2)).tolist():
        for target in ((32, 32), (224, 224), (28, 20), (7, 333)):
            left, top, right, bottom = LARGEST_BOX.kept(tuple(source), target)
            assert 0 <= left < right <= source[0]
            assert 0 <= top < bottom <= source[1]
            assert (right - left) / (bottom - top) == pytest.approx(target[0] / target[1])


def test_a_centred_square_survives_the_crop():
    picture = np.zeros((40, 100, 3), np.uint8)
    picture[:, 30:70] = 255
    np.testing.assert_array_equal(to_array(Image.fromarray(picture), (20, 20), 3)[:, 2:-2], 255)


def test_a_large_jpeg_is_nearly_the_same_however_it_is_decoded():
    file = io.BytesIO()
    Image.fromarray(SMOOTH).save(file, "JPEG", quality=95)
    image = Image.open(file)
    image.load()
    whole = to_array(image, (64, 64), 3).astype(int)
    scaled = read_picture(file, (64, 64), 3).pixels.astype(int)
    assert np.abs(whole - scaled).mean() < 1.0


def test_two_channels_are_refused():
    with pytest.raises(UserError, match="1 \\(grey\\) or 3"):
        to_array(Image.fromarray(COLOUR), (4, 4), 2)


def test_ghostscript_is_never_started(tmp_path):
    assert "EPS" not in readable_formats()
    assert not {".eps", ".ps", ".pdf"} & readable_suffixes()
    file = tmp_path / "trap.png"
    file.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    with pytest.raises(PictureError, match="no picture format"):
        read_picture(file, (4, 4), 3)


def test_the_usual_suffixes_are_read():
    assert {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"} <= readable_suffixes()


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(PictureError, match="there is no such file"):
        read_picture(tmp_path / "none.png", (4, 4), 3)
    with pytest.raises(PictureError, match="it is a folder"):
        read_picture(tmp_path, (4, 4), 3)


def test_reading_pictures_needs_no_torch():
    program = "import sys, formwright.data.preprocess, formwright.data; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
