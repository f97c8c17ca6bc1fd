"""Data that ``formwright fit`` refuses: one sentence, exit code 2, nothing left behind."""

from __future__ import annotations

import shutil
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.conftest import process, save_picture


@pytest.fixture
def refused(cli, tmp_path):
    """Refuses to fit ``data`` and leaves nothing behind; returns the sentence."""

    def run(data: Path, *options: object) -> str:
        before = sorted(tmp_path.rglob("*"))
        sentence = cli("fit", data, "--out", "runs/mine", *options).refusal()
        assert sorted(tmp_path.rglob("*")) == before
        return sentence

    return run


def test_a_missing_folder(refused, tmp_path):
    sentence = refused(tmp_path / "nowhere")
    assert sentence.startswith(f"There is no {tmp_path / 'nowhere'}; check the path. What is read: pictures")
    assert "; pictures (a folder with a sub-folder per class" in sentence


def test_an_empty_folder(refused, tmp_path):
    (tmp_path / "void").mkdir()
    sentence = refused(tmp_path / "void")
    assert "void is empty; what is read: pictures" in sentence
    assert "; pictures (a folder with a sub-folder per class" in sentence


def test_one_class(refused, photos):
    shutil.rmtree(photos / "dog")
    assert "one class only, 'cat'; at least two class folders are expected" in refused(photos)


def test_a_class_with_one_picture(refused, photos):
    save_picture(photos / "owl" / "only.png", 5)
    assert "too few different pictures to train on: owl (1)" in refused(photos)


def truncated(path: Path) -> None:
    whole = save_picture(path.with_suffix(".whole.png"), 7, (64, 64))
    path.write_bytes(whole.read_bytes()[:900])
    whole.unlink()


def enormous(path: Path) -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (truncated, "the file is truncated"),
        (lambda path: path.write_bytes(b""), "the file is empty"),
        (lambda path: path.write_text("milk, bread, butter\n" * 9), "in no picture format that is read"),
        (enormous, "too many to decode"),
    ],
    ids=["truncated", "zero bytes", "text", "30,000 x 30,000"],
)
def test_a_bad_picture_is_named(refused, photos, make, reason):
    make(photos / "cat" / "bad.png")
    sentence = refused(photos)
    assert "1 of 21 pictures" in sentence
    assert f"cat/bad.png ({reason}" in sentence or (reason in sentence and "cat/bad.png" in sentence)
    assert "--skip-bad" in sentence


def test_a_file_without_permission_is_named(refused, photos, monkeypatch):
    real_open = Image.open

    def refuse(file, *args, **options):  # the administrator may read everything, so the refusal is simulated
        if str(file).endswith("3.png"):
            raise PermissionError(13, "Permission denied")
        return real_open(file, *args, **options)

    monkeypatch.setattr(Image, "open", refuse)
    assert "3.png (no permission to read it)" in refused(photos)


def test_a_file_of_another_kind(refused, tmp_path):
    (tmp_path / "photos.zip").write_bytes(b"PK")
    sentence = refused(tmp_path / "photos.zip")
    assert "photos.zip is a file of a kind that is not recognised" in sentence
    assert "unpack it" in sentence


def test_a_damaged_npz(refused, tmp_path):
    (tmp_path / "data.npz").write_bytes(b"PK\x03\x04half")
    assert "data.npz cannot be read as .npz" in refused(tmp_path / "data.npz")


def test_a_real_process_says_one_sentence_and_leaves_nothing(tmp_path):
    answer = process("fit", "nowhere", "--out", "runs/mine", cwd=tmp_path)
    assert "There is no nowhere" in answer.refusal()
    assert list(tmp_path.iterdir()) == []
