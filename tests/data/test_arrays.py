"""Pictures that come as .npz files and IDX pairs."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest

from formwright.data import read_images
from formwright.errors import UserError

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (40, 7, 6), dtype=np.uint8)
COLOUR = RANDOM.integers(0, 256, (40, 7, 6, 3), dtype=np.uint8)
LABELS = np.arange(40) % 4


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("keys", [("images", "labels"), ("x", "y"), ("arr_0", "arr_1"), ("x_train", "y_train")])
def test_pairs_of_keys_are_found(tmp_path, keys):
    data = read_images(save(tmp_path / "data.npz", **{keys[0]: COLOUR, keys[1]: LABELS}))
    np.testing.assert_array_equal(data.images, COLOUR)
    np.testing.assert_array_equal(data.labels, LABELS)
    assert data.class_names == ("0", "1", "2", "3")


@pytest.mark.parametrize("pattern", ["x_{} y_{}", "{}_images {}_labels"])
def test_given_parts_are_kept(tmp_path, pattern):
    x, y = pattern.split()
    arrays = {x.format("train"): GREY[:30], y.format("train"): LABELS[:30, None]}
    arrays |= {x.format("test"): GREY[30:], y.format("test"): LABELS[30:, None]}
    data = read_images(save(tmp_path / "data.npz", **arrays))
    np.testing.assert_array_equal(data.split.test, np.arange(30, 40))
    np.testing.assert_array_equal(data.images[..., 0], GREY)


@pytest.mark.parametrize(
    ("images", "note"),
    [
        (COLOUR.transpose(0, 3, 1, 2), "moved last"),
        (COLOUR / 255.0, "0 to 1"),
        (COLOUR.astype(np.float32), None),
        (COLOUR.astype(np.int64), None),
        (COLOUR.astype(np.uint16) * 257, "0 to 65535"),
        (COLOUR.astype(np.uint16) * 16, "0 to 4080"),
        (COLOUR.astype(np.int16) - 5, "-5 to 250"),
        (COLOUR / 127.5 - 1, "-1 to 1"),
        (COLOUR / 2550.0, "0 to 0.1"),
        (COLOUR + 3000.25, "3000.25 to 3255.25"),
    ],
)
def test_other_layouts_and_types_are_brought_to_uint8(tmp_path, images, note):
    data = read_images(save(tmp_path / "data.npz", x=images, y=LABELS))
    np.testing.assert_array_equal(data.images, COLOUR)
    assert note is None or any(note in line for line in data.notes)


def test_labels_may_be_names_or_any_whole_numbers(tmp_path):
    names = np.array(["ant", "bee", "cat", "dog"])[LABELS]
    assert read_images(save(tmp_path / "a.npz", x=GREY, y=names)).class_names == ("ant", "bee", "cat", "dog")
    data = read_images(save(tmp_path / "b.npz", x=GREY, y=10.0 * LABELS - 10))
    assert data.class_names == ("-10", "0", "10", "20")
    np.testing.assert_array_equal(data.labels, LABELS)


NOT_FINITE = COLOUR / 255.0
NOT_FINITE[3, 0, 0, 0] = np.nan


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (COLOUR, LABELS[:-1], "one label per picture"),
        (COLOUR, np.eye(4)[LABELS], "one label per picture"),
        (GREY.reshape(40, -1), LABELS, "reshape it"),
        (RANDOM.random((40, 5, 5, 5)), LABELS, "reshape it"),
        (GREY[:0], LABELS[:0], "has shape"),
        (NOT_FINITE, LABELS, "not finite in 1 pictures"),
        (COLOUR.astype(str), LABELS, "numbers are expected"),
        (COLOUR, LABELS + 0.5, "not whole numbers"),
        (COLOUR, LABELS * np.nan, "not whole numbers"),
        (COLOUR, LABELS * 1j, "class numbers or names"),
        (COLOUR, np.array([{}] * 40, dtype=object), "not as objects"),
        (COLOUR, LABELS * 0, "one class only"),
        (COLOUR, np.arange(40) // 39, "too few different"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path, images, labels, message):
    with pytest.raises(UserError, match=message):
        read_images(save(tmp_path / "data.npz", images=images, labels=labels))


def test_unknown_keys_are_listed(tmp_path):
    with pytest.raises(UserError, match="holds pixels, targets; images and labels"):
        read_images(save(tmp_path / "data.npz", pixels=GREY, targets=LABELS))


def test_parts_of_different_shape_are_refused(tmp_path):
    arrays = {"x_train": GREY, "y_train": LABELS, "x_test": GREY[:, :5], "y_test": LABELS}
    with pytest.raises(UserError, match="differ in picture shape"):
        read_images(save(tmp_path / "data.npz", **arrays))


@pytest.mark.parametrize("cut", [0, 100, 2000])
def test_a_damaged_npz_is_refused(tmp_path, cut):
    path = save(tmp_path / "data.npz", x=GREY, y=LABELS)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UserError, match=r"cannot be read as \.npz"):
        read_images(path)


def idx(array) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def save_idx(folder, prefix, images, labels, compressed):
    suffix = ".gz" if compressed else ""
    pack = gzip.compress if compressed else bytes
    (folder / f"{prefix}-images-idx3-ubyte{suffix}").write_bytes(pack(idx(images)))
    (folder / f"{prefix}-labels-idx1-ubyte{suffix}").write_bytes(pack(idx(labels.astype(np.uint8))))


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("given", ["folder", "file"])
def test_idx_pairs_are_read(tmp_path, compressed, given):
    save_idx(tmp_path, "train", GREY[:30], LABELS[:30], compressed)
    save_idx(tmp_path, "t10k", GREY[30:], LABELS[30:], compressed)
    suffix = ".gz" if compressed else ""
    data = read_images(tmp_path if given == "folder" else tmp_path / f"train-images-idx3-ubyte{suffix}")
    np.testing.assert_array_equal(data.images[..., 0], GREY)
    np.testing.assert_array_equal(data.labels, LABELS)
    np.testing.assert_array_equal(data.split.test, np.arange(30, 40))


def test_a_test_file_alone_is_split_like_any_other(tmp_path):
    save_idx(tmp_path, "t10k", GREY, LABELS, False)
    data = read_images(tmp_path / "t10k-images-idx3-ubyte")
    assert len(data.split.train) > len(data.split.test) > 0


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda whole: b"", "starts with nothing"),
        (lambda whole: b"PK\x03\x04" + whole, "starts with 504b0304"),
        (lambda whole: whole[:9], "cannot be read as an IDX file"),
        (lambda whole: whole[:-1], "promises 1,680 values"),
        (lambda whole: whole + b"\0", "but holds more"),
        (lambda whole: whole[:4] + b"\xff" * 12 + whole[16:], "promises"),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_a_broken_idx_file_is_refused(tmp_path, damage, message, compressed):
    save_idx(tmp_path, "train", GREY, LABELS, compressed)
    path = tmp_path / f"train-images-idx3-ubyte{'.gz' if compressed else ''}"
    path.write_bytes((gzip.compress if compressed else bytes)(damage(idx(GREY))))
    with pytest.raises(UserError, match=message):
        read_images(tmp_path)


def test_a_truncated_gzip_is_refused(tmp_path):
    save_idx(tmp_path, "train", GREY, LABELS, True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match="cannot be read as an IDX file"):
        read_images(tmp_path)


def test_missing_labels_are_named(tmp_path):
    save_idx(tmp_path, "train", GREY, LABELS, False)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(UserError, match="train-labels-idx1-ubyte is expected"):
        read_images(tmp_path)
