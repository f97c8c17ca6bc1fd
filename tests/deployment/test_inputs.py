"""What predict may be given: long texts, tables of texts, folders, standard input, other encodings."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import pytest

from formwright.deployment import predict
from formwright.errors import UserError
from formwright.reporting import Reporter
from tests.deployment.untrained import forecast_folder, language_folder, text_folder


class Notes(Reporter):
    def __init__(self):
        self.texts = []

    def note(self, text):
        self.texts.append(text)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Asks a classifier of texts, in a folder of its own; gives the names and labels of the answers, and the notes."""
    folder = text_folder(tmp_path / "run", column="review")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def ask(*inputs, files=(), **options):
        for name, content in dict(files).items():
            path = tmp_path / "here" / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        notes = Notes()
        found = predict(folder, inputs, reporter=notes, **options)
        assert {one.label for one in found} <= {"NA", "007"}
        return [one.file for one in found], notes.texts

    return ask


@pytest.mark.parametrize(
    "text",
    ["lovely, warm " * 30, "lovely" * 300, "lovely/" * 60, "two\nlines", "-5 stars", "no. 1", "nul \0", "a.b/c.d"],
)
def test_a_text_is_a_text_however_long_it_is(run, text):
    assert run(text) == ([text], [])


TABLES = {
    "new.csv": 'text\n"lovely, warm"\n"awful"\n"superb\nhappy"\n',
    "NEW.CSV": "text\r\nlovely, warm\r\nawful\r\nsuperb\r\n",
    "no-header.csv": "lovely\nawful\nsuperb\n",
    "semicolons.csv": "id;review;stars\n1;lovely, warm;5\n2;awful;1\n3;superb;5\n",
    "named-as-in-training.csv": "text,review\n1,lovely\n2,awful\n3,superb\n",
    "tabs.tsv": 'id\ttext\n1\tlovely "warm\n2\tawful\n3\tsuperb\n',
    "sixteen.csv": "text;id\nlovely;1\nawful;2\nsuperb;3\n".encode("utf-16"),
    "mark.csv": "text\nlovely\nawful\nsuperb\n".encode("utf-8-sig"),
    "lines.jsonl": '{"text": "lovely"}\n{"text": "awful"}\n{"text": "superb"}\n',
    "list.json": '[{"text": "lovely"},\n {"text": "awful"}, {"text": "superb"}]',
}


@pytest.mark.parametrize("name", TABLES)
def test_every_row_of_a_table_has_an_answer(run, name):
    names, notes = run(name, files={name: TABLES[name]})
    assert len(names) == 3
    assert all(one.startswith(f"{name}:") for one in names)
    assert notes == []


def test_the_column_of_texts_can_be_named(run):
    table = {"t.csv": "text,other,note\na,x,1\nb,yy,2\n"}
    whole, _ = run("t.csv", files=table)
    assert whole == ["t.csv:2", "t.csv:3"]
    for column in ("other", "2"):
        assert run("t.csv", text_column=column)[0] == ["t.csv:2", "t.csv:3"]
    with pytest.raises(UserError, match=r"no column 'nope' \(--text-column\)"):
        run("t.csv", text_column="nope")


def test_a_bad_row_is_named_or_left_out(run):
    table = {"t.csv": "text,id\nlovely,1\n,2\nsuperb,3,4\nwarm,5\n"}
    with pytest.raises(UserError, match=r"t\.csv, row 4: 3 columns where 2 are expected"):
        run("t.csv", files=table)
    names, notes = run("t.csv", skip_bad=True)
    assert names == ["t.csv:2", "t.csv:5"]
    (note,) = notes
    assert note.startswith(
        "2 rows were left out: row 3 of t.csv (the column 'text' is empty), row 4 of t.csv (3 columns"
    )


def test_other_encodings(run):
    files = {"latin.txt": "häßlich".encode("cp1252"), "latin.csv": "text\nhäßlich\n".encode("cp1252")}
    for name in files:
        with pytest.raises(UserError, match="is not UTF-8; name the file's encoding, such as --encoding"):
            run(name, files=files)
        assert len(run(name, encoding="cp1252")[0]) == 1
        with pytest.raises(UserError, match="There is no encoding 'nope'"):
            run(name, encoding="nope")
    assert run("sixteen.txt", files={"sixteen.txt": "häßlich".encode("utf-16")})[0] == ["sixteen.txt"]


def test_broken_characters_are_replaced_and_counted(run):
    assert run("caf\udce9 lovely") == (["caf\ufffd lovely"], ["1 broken character was replaced by U+FFFD."])
    lines = {"t.jsonl": '{"text": "warm \\ud83d"}\n{"text": "fine"}\n'}
    assert run("t.jsonl", files=lines) == (["t.jsonl:1", "t.jsonl:2"], ["1 broken character was replaced by U+FFFD."])
    assert run("t.csv", files={"t.csv": b"text\nwarm \xed\xa0\xbd\n"})[1] == [
        "1 broken character was replaced by U+FFFD."
    ]


def test_folders_stand_for_their_files(run):
    files = {"new/a.txt": "lovely", "new/b.csv": "text\nx\ny\n", "new/c.bin": b"\0", "new/d.txt": b"\xff"}
    with pytest.raises(UserError, match=r"d\.txt, row 1: byte 0xff"):
        run("new", files=files)
    names, notes = run("new", skip_bad=True)
    assert names == ["new/a.txt", "new/b.csv:2", "new/b.csv:3"]
    assert notes[0] == "1 file of another kind was left out of new: c.bin."
    assert notes[1].startswith("Left out: new/d.txt, row 1")
    with pytest.raises(UserError, match="The folder none holds no texts"):
        run("none", files={"none/c.bin": b"\0"})


@pytest.mark.parametrize("given", ["", "  ", "missing.txt", "missing.csv"])
def test_what_is_no_text_is_refused(run, given):
    with pytest.raises(UserError, match=r"An empty text was given|There is no file missing"):
        run(given)


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("lovely and warm\nin two lines\n", ["-"]),
        ('text\n"lovely, warm"\nawful\n', ["standard input:2", "standard input:3"]),
        ("id;review\n1;lovely\n", ["standard input:2"]),
        ('{"text": "lovely"}\n{"text": "awful"}\n', ["standard input:1", "standard input:2"]),
        ("text and more words than a name has\nand a second line", ["-"]),
        ("Subject: hello, text\nand a second line", ["-"]),
    ],
)
def test_standard_input(run, monkeypatch, content, names):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content.encode())))
    assert run("-")[0] == names


def test_nothing_on_standard_input(run, monkeypatch):
    for stream in (None, SimpleNamespace(buffer=io.BytesIO(b""))):
        monkeypatch.setattr(sys, "stdin", stream)
        with pytest.raises(UserError, match="Nothing came on standard input"):
            run("-")


def test_one_input_need_not_be_a_list(tmp_path):
    assert len(predict(text_folder(tmp_path / "run"), "lovely")) == 1


def test_a_model_of_language_reads_a_table_as_one_text_unless_a_column_is_named(tmp_path):
    folder = language_folder(tmp_path / "run")
    table = tmp_path / "t.csv"
    table.write_text("text\nlovely and warm and kind\nawful\n")
    (whole,) = predict(folder, [table])
    assert whole.bits_per_byte == pytest.approx(8.011, abs=1e-3)
    assert [one.file for one in predict(folder, [table], text_column="text")] == [f"{table}:2", f"{table}:3"]


def test_series_from_standard_input_and_folders(tmp_path, monkeypatch):
    folder = forecast_folder(tmp_path / "run")
    content = "date;sales\n" + "".join(f"2024-01-{day:02};{day},5\n" for day in range(1, 9))
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "a.csv").write_text(content)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content.encode())))
    for given in ("-", tmp_path / "tables", tmp_path / "tables" / "a.csv"):
        (forecast,) = predict(folder, [given])
        assert forecast.times == ["2024-01-09", "2024-01-10"]
        assert forecast.values[:, 0].tolist() == pytest.approx([7.5, 8.5], rel=1e-5)
    with pytest.raises(UserError, match="reads no column of texts"):
        predict(folder, [tmp_path / "tables"], text_column="sales")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"date;sales\nx;y\n")))
    with pytest.raises(UserError) as told:
        predict(folder, ["-"])
    assert str(tmp_path) not in str(told.value)
