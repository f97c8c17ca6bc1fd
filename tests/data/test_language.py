"""Running text: its parts, source trees, windows, and what cannot be read."""

from __future__ import annotations

import numpy as np
import pytest

from formwright.data.language import looks_like_language, read_language, windows
from formwright.data.language_batches import LanguageBatches
from formwright.errors import UserError

TEXT = "".join(f"Line {i} of a text that goes on.\n" for i in range(600))


def test_parts_follow_each_other(tmp_path):
    (tmp_path / "book.txt").write_text(TEXT)
    data = read_language(tmp_path / "book.txt")
    assert data.parts["train"] + data.parts["val"] + data.parts["test"] == TEXT
    assert len(data.parts["test"]) == pytest.approx(0.1 * len(TEXT), abs=1)
    assert len(data.parts["val"]) == pytest.approx(0.1 * len(TEXT), abs=1)
    data.save_splits(tmp_path / "splits.json")
    data.check_splits(tmp_path / "splits.json")
    (tmp_path / "book.txt").write_text(TEXT + "more")
    with pytest.raises(UserError, match="text is not that"):
        read_language(tmp_path / "book.txt").check_splits(tmp_path / "splits.json")


def test_given_parts(tmp_path):
    for name, text in (("train", TEXT), ("valid", TEXT[:900]), ("test", TEXT[:800])):
        (tmp_path / f"{name}.txt").write_text(text)
    data = read_language(tmp_path)
    assert [len(data.parts[name]) for name in ("train", "val", "test")] == [len(TEXT), 900, 800]


def test_a_source_tree_without_what_is_hidden_or_no_text(tmp_path):
    (tmp_path / "src" / ".git").mkdir(parents=True)
    (tmp_path / "src" / "b.py").write_text(TEXT)
    (tmp_path / "src" / "a.py").write_text("first = 1\n" + TEXT)
    (tmp_path / "src" / ".git" / "x.py").write_text("hidden")
    (tmp_path / "src" / "picture.bin").write_bytes(b"\0\1\2")
    data = read_language(tmp_path)
    assert data.files == ("src/a.py", "src/b.py")
    assert data.parts["train"].startswith("first = 1")
    assert any("src/picture.bin" in note for note in data.notes)
    assert looks_like_language(tmp_path) == "a folder of text files"
    (tmp_path / "src" / "c.py").write_bytes(b"x = 1\ny = '\xe9'\n" + b"#" * 9000)
    with pytest.raises(UserError, match=r"c\.py, row 2: byte 0xe9 is not UTF-8"):
        read_language(tmp_path)
    assert read_language(tmp_path, skip_bad=True).files == data.files


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "is empty"), (b"short", "5 characters|4 characters"), (b"a\nb\xff" * 2000, "row 2: byte 0xff")],
)
def test_what_cannot_be_read_is_said(tmp_path, content, words):
    (tmp_path / "book.txt").write_bytes(content)
    with pytest.raises(UserError, match=words):
        read_language(tmp_path / "book.txt")


def test_other_data_is_not_taken_for_text(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    (tmp_path / "b.txt").write_bytes(b"\0\0")
    assert looks_like_language(tmp_path / "a.csv") is None
    assert looks_like_language(tmp_path / "b.txt") is None
    assert looks_like_language(tmp_path / "none") is None


@pytest.mark.parametrize(("count", "length", "overlap"), [(100, 8, 4), (17, 8, 0), (9, 8, 4), (50, 10, 3)])
def test_every_id_but_the_first_is_foretold_once(count, length, overlap):
    ids = np.arange(count)
    inputs, targets = windows(ids, length, overlap=overlap)
    assert inputs.shape == targets.shape
    counted = targets[targets >= 0]
    assert sorted(counted.tolist()) == list(range(1, count))
    assert (targets[targets >= 0] == inputs[targets >= 0] + 1).all()
    assert all((row >= 0).nonzero()[0].min() >= overlap for row in targets[1:])


def test_a_text_shorter_than_a_window(tmp_path):
    with pytest.raises(UserError, match="give a longer one"):
        windows(np.arange(8), 8)
    with pytest.raises(UserError, match="too short"):
        LanguageBatches(np.arange(12), 8, batch_size=2)


def test_batches_are_windows_and_continue_where_they_stopped():
    ids = np.arange(1000)
    batches = LanguageBatches(ids, 10, batch_size=7, seed=1)
    seen = [next(batches) for _ in range(2 * len(batches))]
    for batch in seen:
        assert (batch.targets == batch.inputs + 1).all()
        assert (batch.inputs[:, 1:] == batch.inputs[:, :-1] + 1).all()
    starts = [int(row[0]) % 10 for batch in seen[: len(batches)] for row in batch.inputs]
    assert len(set(starts)) == 1, "an epoch begins at one place"
    again = LanguageBatches(ids, 10, batch_size=7, seed=1)
    again.load_state_dict({**batches.state_dict(), "step": 5})
    assert (next(again).inputs == seen[5].inputs).all()
