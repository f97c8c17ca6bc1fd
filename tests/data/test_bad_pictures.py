"""Files and folders that cannot be used: one sentence each, with the file named."""

from __future__ import annotations

import os
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from formwright.data import decode, read_images
from formwright.errors import UserError
from tests.data.conftest import save_picture


def truncated(path: Path) -> None:
    whole = save_picture(path.with_suffix(".whole.jpg"), 1, (64, 64))
    path.write_bytes(whole.read_bytes()[:700])
    whole.unlink()


def enormous(path: Path) -> None:
    """A PNG header that promises 30,000 x 30,000 pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))


BAD = {
    "truncated.jpg": (truncated, "truncated"),
    "empty.png": (lambda path: path.write_bytes(b""), "the file is empty"),
    "text.png": (lambda path: path.write_text("not a picture\n" * 20), "no picture format"),
    "enormous.png": (enormous, "too many to decode"),
    "dangling.png": (lambda path: path.symlink_to("nowhere.png"), "no such file"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_named_with_its_reason(photos, name):
    make, reason = BAD[name]
    make(photos / "cat" / name)
    with pytest.raises(UserError, match=reason) as caught:
        read_images(photos)
    assert f"cat/{name}" in str(caught.value)
    assert "1 of 21 pictures" in str(caught.value)
    assert "--skip-bad" in str(caught.value)


def test_all_bad_files_are_counted_in_one_error(photos):
    for index in range(8):
        (photos / "dog" / f"bad{index}.png").write_bytes(b"")
    with pytest.raises(UserError, match="8 of 28 pictures") as caught:
        read_images(photos)
    assert "bad0.png" in str(caught.value)
    assert "and 3 more" in str(caught.value)


def test_bad_files_are_skipped_only_when_asked(photos):
    whole = read_images(photos)
    for name, (make, _) in BAD.items():
        make(photos / "cat" / name)
    data = read_images(photos, skip_bad=True)
    assert sorted(data.skipped) == sorted(f"cat/{name}" for name in BAD)
    assert any("5 files that cannot be read were skipped: " in note for note in data.notes)
    assert data.files == whole.files
    np.testing.assert_array_equal(data.images, whole.images)
    np.testing.assert_array_equal(data.labels, whole.labels)


def test_an_enormous_picture_is_refused_without_being_decoded(tmp_path, monkeypatch):
    enormous(tmp_path / "enormous.png")
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("it was decoded"))
    with pytest.raises(UserError, match="too many to decode"):
        decode.read_picture(tmp_path / "enormous.png", (8, 8), 3)


def test_a_file_without_permission_is_named(photos, monkeypatch):
    # The right to read is not enough of a hurdle for root, so the refusal is simulated where the file is opened.
    real_open = Image.open

    def refuse(file, *args, **kwargs):
        if str(file).endswith("03.png"):
            raise PermissionError(13, "Permission denied")
        return real_open(file, *args, **kwargs)

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(UserError, match=r"cat/03\.png \(no permission to read it\)"):
        read_images(photos)


def test_a_class_that_loses_its_pictures_is_refused(photos):
    shutil.rmtree(photos / "cat")
    for index in range(3):
        (photos / "cat").mkdir(exist_ok=True)
        (photos / "cat" / f"{index}.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"cat \(0\)"):
        read_images(photos, skip_bad=True)


def test_nothing_but_bad_files_is_refused_even_when_skipping(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for index in range(3):
            (tmp_path / name / f"{index}.png").write_bytes(b"")
    with pytest.raises(UserError, match="6 of 6 pictures"):
        read_images(tmp_path, skip_bad=True)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(UserError, match=r"There is no .*nowhere"):
        read_images(tmp_path / "nowhere")


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "data.zip").write_bytes(b"PK")
    with pytest.raises(UserError, match="kind that is not read"):
        read_images(tmp_path / "data.zip")


def test_a_folder_without_permission_is_named(photos, monkeypatch):
    real_scandir = os.scandir

    def refuse(path):
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied", str(path))
        return real_scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=r"dog cannot be listed \(Permission denied\)"):
        read_images(photos)


def test_a_path_that_cannot_be_looked_up_is_named(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_images(tmp_path / ("long" * 100))


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="is empty"):
        read_images(tmp_path)


def test_pictures_without_class_folders_are_refused(tmp_path):
    save_picture(tmp_path / "a.png", 0)
    with pytest.raises(UserError, match="1 pictures but no folders"):
        read_images(tmp_path)


def test_one_class_is_refused_with_a_hint_at_the_folder_within(photos):
    with pytest.raises(UserError, match=r"one class only, 'photos'.*if .*photos is the data set"):
        read_images(photos.parent)


def test_a_class_with_one_picture_is_refused_before_anything_is_decoded(photos, monkeypatch):
    save_picture(photos / "owl" / "only.png", 99)
    monkeypatch.setattr(decode, "read_picture", lambda *args: pytest.fail("a picture was decoded"))
    with pytest.raises(UserError, match=r"1 of 3 classes have too few different pictures to train on: owl \(1\)"):
        read_images(photos)


def test_a_class_whose_pictures_are_all_the_same_is_refused(photos):
    for index in range(5):
        save_picture(photos / "owl" / f"{index}.png", 99)
    with pytest.raises(UserError, match=r"owl \(1\)"):
        read_images(photos)


def test_an_empty_class_is_refused(photos):
    (photos / "owl").mkdir()
    (photos / "owl" / "notes.txt").write_text("none yet")
    with pytest.raises(UserError, match=r"1 class folders of .* hold no pictures: owl"):
        read_images(photos)


def test_test_classes_must_be_known(photos):
    (photos / "train").mkdir()
    for name in ("cat", "dog"):
        (photos / name).rename(photos / "train" / name)
    save_picture(photos / "test" / "owl" / "0.png", 50)
    with pytest.raises(UserError, match="classes that its training folder lacks: owl"):
        read_images(photos)


def test_test_without_train_is_refused(photos):
    for name in ("cat", "dog"):
        (photos / name).rename(photos / name.replace("cat", "test").replace("dog", "val"))
    with pytest.raises(UserError, match="no train folder"):
        read_images(photos)


@pytest.mark.parametrize(
    ("option", "message"), [({"channels": 2}, "1 \\(grey\\) or 3"), ({"size": 0}, "at least 1 x 1")]
)
def test_impossible_options_are_refused(photos, option, message):
    with pytest.raises(UserError, match=message):
        read_images(photos, **option)


def test_a_full_disk_is_said(monkeypatch, photos):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(decode, "MEMORY_LIMIT", 0)
    monkeypatch.setattr(decode.os, "posix_fallocate", full)
    with pytest.raises(UserError, match=r"No space left on device.*smaller image size"):
        read_images(photos)
