"""Pictures whose classes stand in a table."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from formwright.data import read_images
from formwright.errors import UserError
from formwright.fitting.data.pictures import Pictures
from formwright.fitting.data.texts import Texts
from formwright.fitting.kind import Reading
from formwright.fitting.task import find_task

RANDOM = np.random.default_rng(0)


@pytest.fixture
def pictures(tmp_path):
    """Twenty pictures, ten of them in a folder."""
    for index in range(20):
        path = tmp_path / ("images" if index % 2 else "") / f"p{index:03d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(RANDOM.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(path)
    return tmp_path


FORMS = {
    "relative": lambda index: f"images/p{index:03d}.png" if index % 2 else f"p{index:03d}.png",
    "dotted": lambda index: f"./images/p{index:03d}.png" if index % 2 else f"./p{index:03d}.png",
    "windows": lambda index: f"images\\p{index:03d}.png" if index % 2 else f"p{index:03d}.png",
    "names": lambda index: f"p{index:03d}.png",
    "without endings": lambda index: f"p{index:03d}",
}


def write(root, form="relative", header="file,class", name="labels.csv", separator=",", rows=20, more=""):
    lines = [f"{FORMS[form](index)}{separator}{'007' if index // 2 % 2 else '07'}" for index in range(rows)]
    (root / name).write_text("\n".join([header.replace(",", separator), *lines]) + "\n" + more, encoding="utf-8")
    return root / name


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("header", "separator", "name"),
    [("file,class", ",", "labels.csv"), ("a,b", ";", "x.csv"), ("image_id,breed", "\t", "x.tsv")],
)
def test_files_and_classes_are_found_by_what_the_columns_hold(pictures, form, header, separator, name):
    table = write(pictures, form, header, name, separator)
    for path in (pictures, table):
        data = read_images(path)
        assert data.class_names == ("007", "07")
        assert len(data.files) == 20
        for file, label in zip(data.files, data.labels, strict=True):
            assert (int(file[-7:-4]) // 2 % 2 == 1) == (data.class_names[label] == "007")
    assert Pictures.recognise(pictures) == "a table of pictures"
    if form != "without endings":
        assert find_task(table, None, {})[0].name == "image-classification"


def test_a_column_says_the_parts_and_an_option_the_classes(pictures):
    lines = ["file,colour,kind,split"]
    for index in range(20):
        part = ("train", "train", "train", "test")[index // 5]
        lines.append(f"p{index:03d}.png,{'red' if index % 2 else 'blue'},{'cat' if index % 3 else 'dog'},{part}")
    (pictures / "labels.csv").write_text("\n".join(lines))
    with pytest.raises(UserError, match="cannot be told; its columns are 'file', 'colour', 'kind', 'split'"):
        read_images(pictures)
    data = Pictures.read(pictures, Reading(options={"label_column": "kind"})).content
    assert data.class_names == ("cat", "dog")
    assert sorted(data.files[index][-7:] for index in data.split.test) == [
        f"{index:03d}.png" for index in range(15, 20)
    ]
    with pytest.raises(UserError, match="has no column 'sort'"):
        read_images(pictures, label_column="sort")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("nowhere.png,07", "row 22 names 'nowhere.png', and there is no such picture"),
        ("p000.png,007", "row 22 says that p000.png is of class 007, and an earlier one of 07"),
        ("p000.png,", "row 22 gives p000.png no class"),
    ],
)
def test_a_bad_row_is_named_and_may_be_left_out(pictures, row, message):
    write(pictures, more=row + "\n")
    with pytest.raises(UserError, match=message):
        read_images(pictures)
    data = read_images(pictures, skip_bad=True)
    assert len(data.files) == 20
    assert any(message in note for note in data.notes)


def test_pictures_without_a_row_are_named(pictures):
    write(pictures, rows=16)
    data = read_images(pictures)
    assert len(data.files) == 16
    assert any("4 pictures that labels.csv does not name" in note for note in data.notes)


def test_tables_of_texts_are_no_tables_of_pictures(pictures):
    table = pictures / "reviews.csv"
    table.write_text(
        "review,stars\n" + "\n".join(f"a fine film of the year {index},{index % 2}" for index in range(40))
    )
    assert Pictures.recognise(table) is None
    assert Texts.recognise(table) is not None


@pytest.mark.parametrize(("given", "size"), [("8", (8, 8)), ("6x10", (6, 10)), (9, (9, 9)), ((5, 7), (5, 7))])
def test_the_size_of_pictures_may_be_asked_for(pictures, given, size):
    write(pictures)
    data = Pictures.read(pictures, Reading(options={"image_size": given}))
    assert data.content.size == data.preparation.size == size == data.shape.size


def test_a_size_that_is_none_is_refused(pictures):
    write(pictures)
    with pytest.raises(UserError, match=r"one number or two with an x between them \(--image-size\), got 'large'"):
        Pictures.read(pictures, Reading(options={"image_size": "large"}))


@pytest.mark.parametrize(("codec", "named"), [("utf-16", None), ("utf-8-sig", None), ("cp1252", "cp1252")])
def test_the_table_is_read_as_others_are(pictures, codec, named):
    table = write(pictures, header="file,Größe", separator=";")
    text = table.read_text(encoding="utf-8").replace("\n", "\r\n").replace(";007", ';"NA"')
    table.write_bytes(text.encode(codec))
    assert read_images(table, encoding=named).class_names == ("07", "NA")
    if named:
        with pytest.raises(UserError, match="is not UTF-8; name the file's encoding"):
            read_images(table)
