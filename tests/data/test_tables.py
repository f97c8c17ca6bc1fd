"""Tables of texts: what is inferred, and that every fault is named by its row."""

from __future__ import annotations

import json

import pytest

from formwright.data.tables import read_rows
from formwright.errors import UserError


def rows(tmp_path, content: str | bytes, name: str = "data.csv", text=None, label=None, skip_bad=False):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_rows(path, text, label, skip_bad=skip_bad)


BODY = "".join(f"a fairly long sentence number {i},{'good' if i % 2 else 'bad'}\n" for i in range(12))


def test_a_headerless_table_of_two_columns_is_read_and_the_guess_told(tmp_path):
    found = rows(tmp_path, BODY)
    assert found.labels == ["bad", "good"] * 6
    assert found.numbers[0] == 1
    assert found.guess == "data.csv: texts are in 'column 1', labels in 'column 2'. It has no header."
    turned = "".join(",".join(reversed(line.split(","))) + "\n" for line in BODY.splitlines())
    assert rows(tmp_path, turned).texts == found.texts


def test_a_header_is_known_by_its_names_or_because_it_does_not_come_again(tmp_path):
    for header in ("sentence,label", "What was said,mood"):
        found = rows(tmp_path, f"{header}\n{BODY}")
        assert len(found.texts) == 12
        assert found.numbers[0] == 2
        assert repr(header.partition(",")[0]) in found.guess


def test_columns_are_named_or_numbered(tmp_path):
    content = "id,review,stars,note\n" + "".join(f"{i},some words {i},{i % 3},aside {i}\n" for i in range(9))
    for text, label in (("review", "stars"), ("2", "3"), (None, "stars")):
        found = rows(tmp_path, content, text=text, label=label)
        assert (found.texts[4], found.labels[4]) == ("some words 4", "1")
    assert not rows(tmp_path, content, text="review", label="stars").guess
    with pytest.raises(UserError, match=r"no column 'mark' \(--label-column\); its columns are: 'id', 'review'"):
        rows(tmp_path, content, label="mark")
    with pytest.raises(UserError, match="name two columns"):
        rows(tmp_path, content, text="review", label="review")


def test_labels_that_cannot_be_told_are_asked_for(tmp_path):
    content = "words,a,b\n" + "".join(f"some long words {i},{i % 2},{i % 3}\n" for i in range(12))
    with pytest.raises(UserError, match="which one holds the labels cannot be told; name it with --label-column"):
        rows(tmp_path, content)


def test_tabs_keep_quotes_and_commas_keep_quoted_line_breaks(tmp_path):
    tabbed = "".join(f'he said "no {i}\t{i % 2}\n' for i in range(6))
    assert rows(tmp_path, tabbed, "data.tsv").texts[1] == 'he said "no 1'
    quoted = 'text,label\n"two\nlines, one text",a\nplain words here,b\n'
    found = rows(tmp_path, quoted)
    assert found.texts[0] == "two\nlines, one text"
    assert found.numbers == [2, 4]


def test_json_lines_and_lists(tmp_path):
    records = [{"text": f"some words {i}", "label": i % 2, "other": None} for i in range(6)]
    lines = "\n".join(map(json.dumps, records))
    for content, name in ((lines, "data.jsonl"), (json.dumps(records), "data.json")):
        found = rows(tmp_path, content, name)
        assert found.labels == ["0", "1"] * 3
    with pytest.raises(UserError, match=r"data\.jsonl, row 7: .*a JSON object is expected"):
        rows(tmp_path, lines + "\n{broken", "data.jsonl")
    with pytest.raises(UserError, match=r"data\.jsonl, row 7: an object with a text and a label"):
        rows(tmp_path, lines + "\n3", "data.jsonl")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("only text here\n", "row 14: 1 column where 2 are expected"),
        (",good\n", "row 14: the column 'text' is empty"),
        ("no label at all,\n", "row 14: the column 'label' is empty"),
        (b"caf\xe9 in another code,good\n", "row 14: byte 0xe9 is not UTF-8"),
        ('"never ends,good\n', "row 14: unexpected end of data"),
    ],
)
def test_faults_are_named_by_row(tmp_path, line, words):
    line = line if isinstance(line, bytes) else line.encode()
    content = b"text,label\n" + BODY.encode() + line
    with pytest.raises(UserError, match=rf"data\.csv, {words}"):
        rows(tmp_path, content)


def test_bad_rows_are_left_out_on_request(tmp_path):
    content = b"text,label\n" + BODY.encode() + b"caf\xe9 in another code,good\n,good\n"
    found = rows(tmp_path, content, skip_bad=True)
    assert len(found.texts) == 12
    assert found.skipped[1] == "row 15 of data.csv (the column 'text' is empty)"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("text,label\n", "a header and no rows"),
        ("one\ntwo\n", "one column only"),
    ],
)
def test_tables_without_texts(tmp_path, content, words):
    with pytest.raises(UserError, match=words):
        rows(tmp_path, content)


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match="There is no"):
        read_rows(tmp_path / "none.csv", None, None, skip_bad=False)
