"""Pictures of more than eight bits keep their levels, alike in all parts and in prediction."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from formwright.data import read_images
from formwright.data.images import from_arrays
from formwright.data.preprocess import PictureError, read_picture
from formwright.data.restoration import read_restoration
from formwright.deployment.preparation import load_preparation
from formwright.deployment.preparations.image_classification import PicturePreparation
from formwright.fitting.data.pictures import Pictures
from formwright.fitting.data.restored import RestoredPictures
from formwright.levels import Extent, Levels

RANDOM = np.random.default_rng(0)
#: What a value between the ends of a range becomes.
SHARES = RANDOM.random((24, 20, 18))


def png(values):
    """A PNG of 16 bits per channel, which Pillow does not write in colour."""
    height, width = values.shape[:2]
    channels = values.shape[2] if values.ndim == 3 else 1
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    blocks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)), (b"IDAT", zlib.compress(rows))]
    body = b"".join(
        struct.pack(">I", len(block)) + name + block + struct.pack(">I", zlib.crc32(name + block))
        for name, block in [*blocks, (b"IEND", b"")]
    )
    return b"\x89PNG\r\n\x1a\n" + body


def tiff(values, order):
    """A TIFF of one strip of 16 bits per channel, in either order of bytes."""
    height, width, channels = values.shape
    pixels = values.astype(f"{order}u2").tobytes()
    bits = 8 + len(pixels)
    entries = [
        (256, 3, 1, width),
        (257, 3, 1, height),
        (258, 3, channels, bits),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, 8),
        (277, 3, 1, channels),
        (278, 3, 1, height),
        (279, 4, 1, len(pixels)),
    ]
    directory = struct.pack(f"{order}H", len(entries))
    for tag, kind, count, value in entries:
        form = "HHIHxx" if kind == 3 and count == 1 else "HHII"
        directory += struct.pack(f"{order}{form}", tag, kind, count, value)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", bits + 2 * channels)
    return head + pixels + struct.pack(f"{order}{channels}H", *[16] * channels) + directory + bytes(4)


def folder(root, suffix, write):
    """Pictures of two classes, those of the test part five times as dark."""
    for index, share in enumerate(SHARES):
        part = "test" if index >= 18 else "train"
        path = root / part / ("cat" if index % 2 else "dog") / f"{index}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, share / (5 if part == "test" else 1))
    return root


def scaled(share, low, high, dtype):
    return (low + (high - low) * share).astype(dtype)


def grey(low, high, dtype):
    return lambda path, share: Image.fromarray(scaled(share, low, high, dtype)).save(path)


def colour(low, high, encode, channels=3):
    def write(path, share):
        values = np.stack([scaled(share, low, high, np.uint16)] * channels, axis=2)
        if channels in (2, 4):
            values[..., -1] = 65535
        path.write_bytes(encode(values))

    return write


WRITERS = {
    "12 bits": ("png", grey(0, 4095, np.uint16)),
    "10 bits": ("png", grey(0, 1023, np.uint16)),
    "16 bits": ("png", grey(0, 65535, np.uint16)),
    "8 of 16 bits": ("tif", grey(0, 255, np.uint16)),
    "temperatures": ("png", grey(2950, 3350, np.uint16)),
    "32 bits": ("tif", grey(0, 2_000_000, np.int32)),
    "signed": ("tif", grey(-1024, 3071, np.int32)),
    "floats to 1": ("tif", grey(0, 1, np.float32)),
    "floats to 255": ("tif", grey(0, 255, np.float32)),
    "narrow floats": ("tif", grey(0.4, 0.45, np.float32)),
    "signed floats": ("tif", grey(-40, 120, np.float32)),
    "colour of 12 bits": ("png", colour(0, 4095, png)),
    "colour and alpha of 12 bits": ("png", colour(0, 4095, png, 4)),
    "grey and alpha of 12 bits": ("png", colour(0, 4095, png, 2)),
    "TIFF in colour": ("tif", colour(100, 1123, lambda values: tiff(values, "<"))),
    "TIFF in colour, other order": ("tif", colour(100, 1123, lambda values: tiff(values, ">"))),
}


@pytest.mark.parametrize("name", WRITERS)
def test_files_keep_their_levels_alike_in_all_parts(tmp_path, name):
    suffix, write = WRITERS[name]
    data = read_images(folder(tmp_path / "data", suffix, write))
    train, test = data.images[data.split.train], data.images[data.split.test]
    assert len(np.unique(train)) > 200
    assert train.max() > 250
    low = 255 * data.levels.integers[0] / 65535 if name == "16 bits" else 0.0
    assert test.mean() - low == pytest.approx(train.mean() / 5, abs=1.5)
    index = int(data.split.test[0])
    expected = 255 * SHARES[int(data.files[index].rpartition("/")[2].partition(".")[0])] / 5
    np.testing.assert_allclose(data.images[index][..., 0], expected, atol=2)


@pytest.mark.parametrize("name", WRITERS)
def test_prediction_reads_as_training_did(tmp_path, name):
    suffix, write = WRITERS[name]
    data = Pictures.read(folder(tmp_path / "data", suffix, write), reading())
    data.preparation.save(tmp_path)
    loaded = load_preparation(tmp_path)
    assert isinstance(loaded, PicturePreparation)
    assert loaded.levels == data.content.levels != Levels()
    for index in (0, int(data.content.split.test[0])):
        file = tmp_path / "data" / data.content.files[index]
        np.testing.assert_array_equal(loaded.read(file), loaded.normalise(data.content.images[index]))


def reading():
    from formwright.fitting.kind import Reading

    return Reading()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK"])
def test_pictures_of_eight_bits_stay_as_they_are(tmp_path, mode):
    def write(path, share):
        Image.fromarray((255 * share).astype(np.uint8)).convert(mode).save(path)

    data = read_images(folder(tmp_path / "data", "tif", write))
    assert data.levels == Levels()
    first = data.files[0]
    with Image.open(tmp_path / "data" / first) as image:
        expected = np.asarray(image.convert("RGB"))[..., : data.channels]
    np.testing.assert_array_equal(data.images[0], expected)


def test_one_deep_picture_after_many_others_is_found(tmp_path):
    def write(path, share):
        deep = path.stem == "23"
        Image.fromarray(scaled(share, 0, 4095 if deep else 255, np.uint16 if deep else np.uint8)).save(path)

    import formwright.data.decode as decode

    sample = decode._SAMPLE
    decode._SAMPLE = 2
    try:
        data = read_images(folder(tmp_path / "data", "png", write))
    finally:
        decode._SAMPLE = sample
    assert data.levels.integers is not None
    assert data.images[data.files.index("test/cat/23.png")].max() > 250


def test_what_is_beyond_the_range_is_cut(tmp_path):
    Image.fromarray(np.array([[2000, 3000, 3050, 3100, 9000]], np.uint16)).save(tmp_path / "a.png")
    found = read_picture(tmp_path / "a.png", (1, 5), 1, levels=Levels(integers=(3000, 3100))).pixels
    assert found[0, :, 0].tolist() == [0, 0, 128, 255, 255]


def test_floats_that_are_not_finite_cost_themselves(tmp_path):
    data = folder(tmp_path / "data", "tif", grey(0, 1, np.float32))
    (bad,) = data.glob("train/*/3.tif")
    Image.fromarray(np.full((20, 18), np.nan, np.float32)).save(bad)
    with pytest.raises(PictureError, match="not finite"):
        read_picture(bad, (20, 18), 1)
    found = read_images(data, skip_bad=True)
    assert found.skipped == ("train/cat/3.tif",)
    assert found.levels.floats == (0.0, 1.0)


def test_parts_of_an_array_are_scaled_alike(tmp_path):
    images = (SHARES * 4095).astype(np.uint16)
    labels = np.arange(24) % 2
    np.savez(tmp_path / "a.npz", x_train=images[:18], y_train=labels[:18], x_test=images[18:] // 20, y_test=labels[18:])
    data = read_images(tmp_path / "a.npz")
    train, test = (data.images[data.split.part(part)].mean() for part in ("train", "test"))
    assert test == pytest.approx(train / 20, rel=0.15)
    preparation = Pictures(data).preparation
    Image.fromarray(images[0]).save(tmp_path / "0.png")
    np.testing.assert_array_equal(preparation.read(tmp_path / "0.png"), preparation.normalise(data.images[0]))


def test_bytes_in_wider_types_and_truths_stay_as_they_are():
    labels = np.arange(24) % 2
    small = (SHARES * 40).astype(np.int64)
    np.testing.assert_array_equal(from_arrays(small, labels).images[..., 0], small)
    np.testing.assert_array_equal(from_arrays(small.astype(np.float32), labels).images[..., 0], small)
    np.testing.assert_array_equal(from_arrays(SHARES > 0.5, labels).images[..., 0], 255 * (SHARES > 0.5))


def test_pictures_to_restore_keep_their_levels(tmp_path):
    for index, share in enumerate(SHARES[:6]):
        Image.fromarray(np.kron(scaled(share, 0, 4095, np.uint16), np.ones((2, 2), np.uint16))).save(
            tmp_path / f"{index}.png"
        )
    content = read_restoration(tmp_path)
    assert len(np.unique(np.stack(content.high))) > 200
    preparation = RestoredPictures(content).preparation
    assert preparation.record()["levels"]["integers"] == content.levels.integers


@pytest.mark.parametrize(
    ("values", "floats", "expected"),
    [
        ([0, 255], False, (0, 255)),
        ([3, 40], False, (0, 255)),
        ([10, 40000], False, (0, 65535)),
        ([0, 4095], False, (0, 4095)),
        ([-1024, 3071], False, (-1024, 3071)),
        ([0.02, 0.97], True, (0, 1)),
        ([0.0, 1.0], True, (0, 1)),
        ([0.0, 200.5], True, (0, 255)),
        ([0.0, 16.0], True, (0, 255)),
        ([20.5, 25.0], True, (20.5, 25)),
        ([7, 7], False, (0, 255)),
        ([700, 700], False, (700, 701)),
    ],
)
def test_ranges(values, floats, expected):
    assert Extent.of(np.array(values)).range(floats=floats) == expected
