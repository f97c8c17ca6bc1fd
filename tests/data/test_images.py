"""Reading folders and the built-in sample: what is inferred, split and noted."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from formwright.data import decode, from_arrays, read_images
from formwright.data.decode import Header, Wishes, infer_form
from formwright.errors import UserError
from tests.data.conftest import save_picture


def test_digits_are_read_when_nothing_is_given():
    data = read_images()
    assert data.images.shape == (1797, 8, 8, 1)
    assert data.images.max() == 255
    assert data.class_names == tuple("0123456789")
    assert (data.size, data.channels, data.classes) == ((8, 8), 1, 10)
    assert len(data.split.test) == pytest.approx(0.15 * 1797, abs=5)
    train = data.images[data.split.train] / 255
    assert data.mean == pytest.approx((train.mean(),))
    assert data.std == pytest.approx((train.std(),))


def test_a_folder_is_read_in_order_with_its_classes(photos):
    calls = []
    data = read_images(photos, progress=lambda done, total: calls.append((done, total)))
    assert data.class_names == ("cat", "dog")
    assert data.files == tuple(sorted(data.files))
    assert [data.class_names[label] for label in data.labels] == [name.split("/")[0] for name in data.files]
    assert data.images.shape == (20, 10, 12, 3)
    assert calls[-1] == (20, 20)
    expected = np.random.default_rng(1).integers(0, 256, (10, 12, 3), dtype=np.uint8)
    np.testing.assert_array_equal(data.images[data.files.index("cat/01.png")], expected)
    assert not data.skipped


def test_the_number_of_threads_changes_nothing(photos, monkeypatch):
    monkeypatch.setattr(decode, "_CHUNK", 3)
    many = read_images(photos)
    monkeypatch.setattr(decode.os, "cpu_count", lambda: 1)
    one = read_images(photos)
    assert many.hash == one.hash
    np.testing.assert_array_equal(many.images, one.images)


def test_given_parts_are_kept(tmp_path):
    for index in range(12):
        name = ("cat", "dog")[index % 2]
        save_picture(tmp_path / "train" / name / f"{index}.png", index)
        save_picture(tmp_path / "valid" / name / f"{index}.png", 100 + index)
        save_picture(tmp_path / "test" / name / f"{index}.png", 200 + index)
    save_picture(tmp_path / "sketches" / "cat" / "0.png", 300)
    data = read_images(tmp_path)
    for part, folder in (("train", "train"), ("val", "valid"), ("test", "test")):
        files = [data.files[index] for index in data.split.part(part)]
        assert len(files) == 12
        assert all(file.startswith(f"{folder}/") for file in files)
    assert any("left out: sketches" in note for note in data.notes)


def test_a_missing_validation_part_is_drawn_from_train_alone(tmp_path):
    for index in range(20):
        save_picture(tmp_path / "train" / "ab"[index % 2] / f"{index}.png", index)
    for index in range(4):
        save_picture(tmp_path / "test" / "ab"[index % 2] / f"{index}.png", 100 + index)
    data = read_images(tmp_path)
    assert all(data.files[index].startswith("test/") for index in data.split.test)
    assert len(data.split.test) == 4
    assert set(data.labels[data.split.val]) == {0, 1}
    assert all(data.files[index].startswith("train/") for index in data.split.val)


def test_train_may_be_the_name_of_a_class(tmp_path):
    for index in range(6):
        save_picture(tmp_path / ("train" if index % 2 else "tram") / f"{index}.png", index)
    assert read_images(tmp_path).class_names == ("train", "tram")


def test_pictures_in_deeper_folders_belong_to_the_class_and_other_files_are_noted(photos):
    save_picture(photos / "cat" / "more" / "deep.png", 77)
    (photos / "cat" / "labels.txt").write_text("nothing")
    (photos / "cat" / ".hidden.png").write_text("nothing")
    save_picture(photos / "loose.png", 78)
    data = read_images(photos)
    assert "cat/more/deep.png" in data.files
    assert len(data.files) == 21
    assert any("cat/labels.txt" in note for note in data.notes)
    assert any("loose.png" in note for note in data.notes)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(28, 28)], (28, 28)),
        ([(28, 20), (28, 20)], (28, 20)),
        ([(224, 224)], (224, 224)),
        ([(300, 300)], (224, 224)),
        ([(480, 640)], (224, 224)),
        ([(30, 40), (34, 33), (36, 70)], (32, 32)),
        ([(70, 90), (75, 99), (200, 80)], (80, 80)),
        ([(160, 170), (150, 180)], (160, 160)),
        ([(1, 5), (2, 2)], (8, 8)),
        ([(1000, 800), (500, 900)], (224, 224)),
    ],
)
def test_the_size_is_inferred_from_the_pictures(sizes, expected):
    assert infer_form([Header(size, False) for size in sizes], Wishes()).size == expected


def test_mixed_sizes_and_formats_come_out_alike(tmp_path):
    suffixes = ("png", "jpg", "bmp", "gif", "tif", "webp")
    for index in range(12):
        path = tmp_path / "ab"[index % 2] / f"{index}.{suffixes[index // 2]}"
        save_picture(path, index, (30 + index, 60 - index))
    data = read_images(tmp_path)
    assert data.images.shape == (12, 32, 32, 3)
    assert any("median short side" in note for note in data.notes)
    assert read_images(tmp_path, size=(20, 24)).size == (20, 24)
    assert read_images(tmp_path, max_side=16).size == (16, 16)


def test_one_picture_of_another_size_beyond_the_sample_is_noticed(photos, monkeypatch):
    monkeypatch.setattr(decode, "_SAMPLE", 2)
    save_picture(photos / "cat" / "10.png", 500, (40, 40))
    data = read_images(photos)
    assert data.size == (8, 8)
    assert read_images(photos).hash == data.hash


def test_colour_beyond_the_sample_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "_SAMPLE", 2)
    for index in range(10):
        save_picture(tmp_path / "ab"[index % 2] / f"{index}.png", index, mode="RGB" if index == 4 else "L")
    assert read_images(tmp_path).channels == 3


def test_grey_is_found_in_modes_and_in_colour_files(tmp_path):
    for index in range(10):
        save_picture(tmp_path / "L" / "ab"[index % 2] / f"{index}.png", index, mode="L")
        grey = np.random.default_rng(index).integers(0, 256, (9, 9, 1), dtype=np.uint8).repeat(3, 2)
        path = tmp_path / "RGB" / "ab"[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(grey).save(path)
    assert read_images(tmp_path / "L").channels == 1
    stored_in_colour = read_images(tmp_path / "RGB")
    assert stored_in_colour.channels == 1
    assert any("stored in colour" in note for note in stored_in_colour.notes)
    assert read_images(tmp_path / "RGB", channels=3).channels == 3


def test_large_data_is_mapped_from_a_file_that_leaves_nothing_behind(photos, monkeypatch, tmp_path):
    in_memory = read_images(photos)
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(decode, "MEMORY_LIMIT", 0)
    monkeypatch.setattr(decode.tempfile, "tempdir", str(tmp_path / "scratch"))
    (photos / "cat" / "00.png").write_bytes(b"")
    mapped = read_images(photos, skip_bad=True)
    assert isinstance(mapped.images, np.memmap)
    np.testing.assert_array_equal(mapped.images, in_memory.images)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_copy_in_train_of_a_test_picture_is_dropped_and_noted(tmp_path):
    for index in range(12):
        save_picture(tmp_path / "train" / "ab"[index % 2] / f"{index}.png", index)
    for index in (0, 1, 50, 51):
        save_picture(tmp_path / "test" / "ab"[index % 2] / f"{index}.png", index)
    data = read_images(tmp_path)
    assert [data.files[index] for index in data.split.dropped] == ["train/a/0.png", "train/b/1.png"]
    assert any("2 pictures are copies" in note for note in data.notes)


def test_splits_are_recorded_and_checked(photos, tmp_path):
    data = read_images(photos, seed=3)
    data.save_splits(tmp_path / "splits.json")
    record = json.loads((tmp_path / "splits.json").read_text())
    assert record["seed"] == 3
    assert sorted(record["train"] + record["val"] + record["test"]) == list(data.files)
    read_images(photos, seed=3).check_splits(tmp_path / "splits.json")
    with pytest.raises(UserError, match="same seed"):
        read_images(photos, seed=4).check_splits(tmp_path / "splits.json")
    save_picture(photos / "cat" / "01.png", 1000)
    with pytest.raises(UserError, match="not those"):
        read_images(photos, seed=3).check_splits(tmp_path / "splits.json")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema_version": 1}'])
def test_a_damaged_record_of_splits_is_refused(photos, tmp_path, content):
    (tmp_path / "splits.json").write_text(content)
    with pytest.raises(UserError, match="not a record of splits"):
        read_images(photos).check_splits(tmp_path / "splits.json")


def test_arrays_are_taken_with_class_names():
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (30, 6, 6), dtype=np.uint8)
    data = from_arrays(images, np.arange(30) % 3, class_names=["x", "y", "z"], size=8)
    assert data.images.shape == (30, 8, 8, 1)
    assert data.class_names == ("x", "y", "z")
    with pytest.raises(UserError, match="2 class names came with 3"):
        from_arrays(images, np.arange(30) % 3, class_names=["x", "y"])
    with pytest.raises(UserError, match="one class only"):
        from_arrays(images, np.zeros(30, int))


def test_plain_pictures_can_be_normalised():
    images = np.repeat(np.arange(12, dtype=np.uint8), 16).reshape(12, 4, 4) // 12
    with pytest.raises(UserError, match="too few different"):
        from_arrays(images, np.arange(12) % 2)
    data = from_arrays(
        np.stack([np.full((4, 4), value, np.uint8) for value in (7, 8, 9, 10, 11, 12)]), np.repeat([0, 1], 3)
    )
    assert data.std[0] >= 1 / 255
