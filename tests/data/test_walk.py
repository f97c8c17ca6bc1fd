"""What lies in folders of data: links, loops, hidden files, and the results of runs."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from PIL import Image

from formwright.data import read_images
from formwright.data.folders import holds_pictures
from formwright.data.language import looks_like_language, read_language
from formwright.data.restoration import read_restoration
from formwright.data.text import read_texts
from formwright.errors import UserError
from formwright.fitting.data.texts import Texts

RANDOM = np.random.default_rng(0)
LETTERS = list("abcdefgh ")


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RANDOM.integers(0, 256, (40, 40), dtype=np.uint8)).save(path)


def text(path, words=200):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(RANDOM.choice(LETTERS, size=words * 10)))


def results(folder):
    """What a run leaves behind, with a picture and texts among it."""
    picture(folder / "variants" / "sample.png")
    text(folder / "report.txt")
    (folder / "run.json").write_text(json.dumps({"options": {}, "trials": [], "variants": []}))
    return folder


@pytest.fixture
def photos(tmp_path):
    root = tmp_path / "photos"
    for index in range(20):
        picture(root / ("cat" if index % 2 else "dog") / f"{index}.png")
    return root


@pytest.fixture
def texts(tmp_path):
    root = tmp_path / "texts"
    for index in range(20):
        text(root / ("sports" if index % 2 else "news") / f"{index}.txt")
    return root


def test_links_to_pictures_and_folders_are_followed(photos, tmp_path):
    picture(tmp_path / "elsewhere" / "1.png")
    picture(tmp_path / "more" / "inner" / "2.png")
    picture(tmp_path / "whole" / "3.png")
    picture(tmp_path / "whole" / "4.png")
    picture(tmp_path / "whole" / "5.png")
    (photos / "cat" / "linked.png").symlink_to(tmp_path / "elsewhere" / "1.png")
    (photos / "dog" / "linked").symlink_to(tmp_path / "more")
    (photos / "fox").symlink_to(tmp_path / "whole")
    files = read_images(photos).files
    assert {"cat/linked.png", "dog/linked/inner/2.png", "fox/3.png", "fox/4.png", "fox/5.png"} <= set(files)
    assert len(files) == 25


def test_loops_of_links_end_and_are_named(photos):
    before = read_images(photos).files
    (photos / "cat" / "self").symlink_to(".")
    (photos / "cat" / "up").symlink_to("../..")
    (photos / "all").symlink_to(photos)
    (photos / "dog" / "near").mkdir()
    (photos / "dog" / "near" / "back").symlink_to("../near")
    data = read_images(photos)
    assert data.files == before
    assert data.class_names == ("cat", "dog")
    (note,) = [note for note in data.notes if "Links" in note]
    assert all(name in note for name in ("all", "cat/self", "cat/up"))


def test_folders_that_link_to_each_other_are_read_once(texts):
    for name, other in (("a", "b"), ("b", "a")):
        text(texts / "news" / name / f"{name}.txt")
        (texts / "news" / name / "other").symlink_to(texts / "news" / other)
    names = read_texts(texts).names
    assert len(names) == 22
    assert read_language(texts).files == tuple(sorted(set(read_language(texts).files)))


def test_links_that_lead_nowhere_are_named(photos):
    (photos / "fox").symlink_to("nowhere")
    (photos / "cat" / "gone").symlink_to("nowhere")
    notes = " ".join(read_images(photos).notes)
    assert "lead nowhere were left out: fox" in notes
    assert "cat/gone" in notes
    (photos / "cat" / "gone.png").symlink_to("nowhere.png")
    with pytest.raises(UserError, match=r"cat/gone.png \(a link to nowhere.png, and there is no such file\)"):
        read_images(photos)


def test_a_link_to_nowhere_is_no_running_text(tmp_path):
    text(tmp_path / "a.txt", 1000)
    (tmp_path / "gone.txt").symlink_to("nowhere.txt")
    data = read_language(tmp_path)
    assert data.files == ("a.txt",)
    assert any("gone.txt" in note for note in data.notes)


HIDDEN = ("__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini", "._1.png", "._1.txt", "@eaDir", ".ipynb_checkpoints")


@pytest.mark.parametrize("name", HIDDEN)
@pytest.mark.parametrize("where", ["", "{class}"])
def test_what_systems_leave_behind_is_no_data(photos, texts, name, where):
    before = read_images(photos).files, read_texts(texts).names, read_language(texts).files
    for root, of_class in ((photos, "cat"), (texts, "news")):
        place = root / where.replace("{class}", of_class) / name
        if "." in name[1:] or name == ".DS_Store":
            place.write_bytes(b"\0\1\2")
        else:
            picture(place / "1.png")
            text(place / "1.txt")
    assert (read_images(photos).files, read_texts(texts).names, read_language(texts).files) == before
    assert not any("left out" in note for note in read_images(photos).notes)


@pytest.mark.parametrize("where", ["runs/one", "results", "runs/2026/one"])
@pytest.mark.parametrize("stage", ["made before", "killed", "finished"])
def test_results_inside_the_data_are_no_data(photos, texts, where, stage):
    before = read_images(photos), read_texts(texts), read_language(texts)
    for root in (photos, texts):
        if stage == "made before":
            (root / where).mkdir(parents=True)
        else:
            results(root / where)
    later = (
        read_images(photos, out=photos / where),
        read_texts(texts, out=texts / where),
        read_language(texts, out=texts / where),
    )
    for one, other in zip(before, later, strict=True):
        assert one.hash == other.hash
    assert holds_pictures(photos)
    assert looks_like_language(texts) is not None
    assert Texts.recognise(texts) is not None


def test_results_of_other_runs_and_saved_models_are_no_data_and_named(photos, tmp_path):
    before = read_images(photos).files
    results(photos / "cat" / "old")
    for name in ("config.json", "model.safetensors", "card.png"):
        (photos / "dog" / "model").mkdir(exist_ok=True)
        (photos / "dog" / "model" / name).write_text("{}")
    data = read_images(photos)
    assert data.files == before
    assert any("no data" in note and "cat/old, dog/model" in note for note in data.notes)


def test_a_folder_that_has_a_file_run_json_of_its_own_is_data(photos):
    picture(photos / "cat" / "mine" / "a.png")
    (photos / "cat" / "mine" / "run.json").write_text('{"options": 1}')
    assert "cat/mine/a.png" in read_images(photos).files


def test_pictures_to_restore_follow_links_and_name_those_to_nowhere(tmp_path):
    for index in range(5):
        picture(tmp_path / "elsewhere" / f"{index}.png")
    root = tmp_path / "clean"
    root.mkdir()
    for index in range(5):
        (root / f"{index}.png").symlink_to(tmp_path / "elsewhere" / f"{index}.png")
    results(root / "runs")
    assert len(read_restoration(root).names) == 5
    (root / "gone.png").symlink_to("nowhere.png")
    with pytest.raises(UserError, match=r"a link to nowhere\.png"):
        read_restoration(root)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names here")
def test_what_is_no_file_is_not_opened(photos, texts):
    os.mkfifo(photos / "cat" / "pipe.png")
    os.mkfifo(texts / "news" / "pipe.txt")
    assert len(read_images(photos).files) == 20
    assert len(read_language(texts).files) == 20
