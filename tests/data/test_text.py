"""Classified texts: parts, classes, copies, folders, rows of ids."""

from __future__ import annotations

import numpy as np
import pytest

from formwright.data.text import read_texts
from formwright.data.text_batches import TextBatches, trimmed
from formwright.data.token_rows import PADDING, RowMaker, train_word_pieces
from formwright.errors import UserError


def table(count: int, start: int = 0) -> str:
    return "".join(f"the {'good' if i % 2 else 'bad'} film number {i}\t{i % 2}\n" for i in range(start, start + count))


@pytest.fixture
def given_parts(tmp_path):
    for name, count, start in (("train", 40, 0), ("dev", 10, 100), ("test", 12, 200)):
        (tmp_path / f"{name}.tsv").write_text(table(count, start))
    return tmp_path


def test_given_parts_are_kept(given_parts):
    data = read_texts(given_parts)
    assert [len(data.part(name)) for name in ("train", "val", "test")] == [40, 10, 12]
    assert data.names[40] == "dev.tsv:1"
    assert data.class_names == ("0", "1")
    assert any("validation and test as given" in note for note in data.notes)


def test_other_parts_are_drawn_by_seed_and_recorded(tmp_path):
    (tmp_path / "all.tsv").write_text(table(100))
    first, same, other = (read_texts(tmp_path / "all.tsv", seed=seed) for seed in (0, 0, 1))
    assert first.part("test") == same.part("test") != other.part("test")
    assert not set(first.part("train")) & {*first.part("val"), *first.part("test")}
    first.save_splits(tmp_path / "splits.json")
    same.check_splits(tmp_path / "splits.json")
    with pytest.raises(UserError, match="parts differ"):
        other.check_splits(tmp_path / "splits.json")
    (tmp_path / "all.tsv").write_text(table(99))
    with pytest.raises(UserError, match="texts are not those"):
        read_texts(tmp_path / "all.tsv").check_splits(tmp_path / "splits.json")


def test_copies_of_test_texts_leave_the_training_part(given_parts):
    (given_parts / "train.tsv").write_text(table(40) + table(2, 200))
    data = read_texts(given_parts)
    assert len(data.part("train")) == 40
    assert any("2 of them lay in two parts" in note for note in data.notes)


def test_folders_of_files(tmp_path):
    for label in ("sport", "music"):
        (tmp_path / label).mkdir()
        for index in range(8):
            (tmp_path / label / f"{index}.txt").write_text(f"about {label} {index}")
    data = read_texts(tmp_path)
    assert data.class_names == ("music", "sport")
    assert data.names[0] == "music/0.txt"
    (tmp_path / "sport" / "bad.txt").write_bytes(b"line\n\xff\n")
    with pytest.raises(UserError, match=r"bad\.txt, row 2: byte 0xff"):
        read_texts(tmp_path)
    assert any("bad.txt" in note for note in read_texts(tmp_path, skip_bad=True).notes)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("".join(f"some words {i}\tsame\n" for i in range(20)), "one class only, 'same'"),
        (
            "".join(f"some words {i}\t{i % 2}\n" for i in range(20)) + "rare words\t7\n",
            r"too few different texts.*7 \(1\)",
        ),
        ("".join(f"some words {i}\tlabel {i}\n" for i in range(20)), "20 different labels among 20 texts"),
    ],
)
def test_what_cannot_be_learned_is_said(tmp_path, content, words):
    (tmp_path / "data.tsv").write_text(content)
    with pytest.raises(UserError, match=words):
        read_texts(tmp_path / "data.tsv", label_column="2")


def test_a_class_that_is_only_tested_is_refused(given_parts):
    (given_parts / "test.tsv").write_text(table(4, 200) + "strange words here\t9\n")
    with pytest.raises(UserError, match=r"test\.tsv:5 has a class that the training table lacks: 9"):
        read_texts(given_parts)


def test_numbers_as_classes_stand_in_their_order(tmp_path):
    (tmp_path / "data.tsv").write_text("".join(f"some words {i}\t{(2, 10, 1)[i % 3]}\n" for i in range(60)))
    assert read_texts(tmp_path / "data.tsv").class_names == ("1", "2", "10")


def test_word_pieces_write_any_text_and_rows_are_cut_and_filled():
    tokenizer = train_word_pieces(["The good film", "the bad film"] * 5, 300)
    assert tokenizer.decode(tokenizer.encode("The good film")).strip() == "the good film"
    assert tokenizer.decode(tokenizer.encode("naïve 漢字")).strip() == "naïve 漢字"
    assert tokenizer.padding == PADDING
    maker = RowMaker(tokenizer)
    ids = maker.encode(["good", "", "the bad film " * 9])
    assert ids[1] == [PADDING]
    rows = maker.rows(ids, 6)
    assert rows.shape == (3, 6)
    assert rows[0].tolist() == [*ids[0], *[PADDING] * (6 - len(ids[0]))]
    assert rows[2].tolist() == ids[2][:6]


def test_batches_cover_an_epoch_and_continue_where_they_stopped():
    rows = np.arange(1, 61).reshape(10, 6)
    labels = np.arange(10) % 2
    batches = TextBatches(rows, labels, batch_size=4, seed=3, drop=0.3)
    seen = [next(batches) for _ in range(5)]
    again = TextBatches(rows, labels, batch_size=4, seed=3, drop=0.3)
    again.load_state_dict({**batches.state_dict(), "step": 2})
    for batch in seen[2:]:
        other = next(again)
        assert (other.inputs == batch.inputs).all()
        assert (other.targets == batch.targets).all()
    with pytest.raises(UserError, match="The batches to continue have"):
        TextBatches(rows, labels, batch_size=5, seed=3).load_state_dict(batches.state_dict())


def test_dropped_tokens_leave_no_holes_and_something_remains():
    rows = np.full((500, 8), 5)
    rows[:, 6:] = PADDING
    inputs = next(TextBatches(rows, np.zeros(500, np.int64), batch_size=500, drop=0.5)).inputs.numpy()
    real = inputs != PADDING
    assert real.any(1).all()
    assert (np.sort(~real, axis=1) == ~real).all(), "padding comes last"
    assert 2 < real.sum(1).mean() < 4


def test_columns_of_padding_are_cut():
    rows = np.zeros((2, 40), np.int64)
    rows[1, :9] = 3
    assert trimmed(rows).shape == (2, 16)
