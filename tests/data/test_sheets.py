"""Tables as users' programs write them: separators, decimal signs, encodings, ends of lines, names and indices."""

from __future__ import annotations

import numpy as np
import pytest

from formwright.data.labelled_series import read_labelled_series
from formwright.data.series_files import looks_like_series, read_table
from formwright.data.sheets import read_sheet
from formwright.data.splits import in_order
from formwright.data.text import read_texts
from formwright.errors import UserError
from formwright.fitting.kind import Reading
from formwright.fitting.task import task_type

DAYS = [f"2024-01-{day:02}" for day in range(1, 13)]
SALES = [1234.5 + day * 1000.25 for day in range(12)]


def written(tmp_path, content, name="t.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def table(separator=",", decimal=".", thousands="", newline="\n", before="", header="date{}sales"):
    def number(value):
        text = f"{value:,.2f}".replace(",", "_").replace(".", decimal).replace("_", thousands)
        return f'"{text}"' if separator in text else text

    lines = [
        header.format(separator),
        *(f"{day}{separator}{number(one)}" for day, one in zip(DAYS, SALES, strict=True)),
    ]
    return before + newline.join(lines) + newline


PLAIN = table()
WAYS = {
    "semicolons": table(";"),
    "tabs": table("\t"),
    "pipes": table("|"),
    "decimal commas": table(";", ","),
    "decimal commas in quotes": table(",", ","),
    "thousands points": table(";", ",", "."),
    "thousands blanks": table(";", ",", "\N{NARROW NO-BREAK SPACE}"),
    "thousands apostrophes": table(";", ".", "'"),
    "thousands commas": table(",", ".", ","),
    "Windows": table(newline="\r\n"),
    "old Mac": table(newline="\r"),
    "a mark": table().encode("utf-8-sig"),
    "UTF-16": table(";", ",").encode("utf-16"),
    "UTF-16 without a mark": table("\t", ",").encode("utf-16-be"),
    "blanks in the header": table(header=" date {} sales "),
    "quotes": table(header='"date"{}"sales"'),
    "the hint of spreadsheets": table(";", ",", before="sep=;\r\n"),
    "blank lines": PLAIN.replace("\n", "\n\n", 3) + "\n\n",
    "empty columns behind": PLAIN.replace("\n", ",,\n"),
    "rows of nothing": PLAIN + ",\n,,\n",
    "an index": "".join(
        f"{number},{line}\n" for number, line in zip(["", *range(12)], PLAIN.splitlines(), strict=True)
    ),
    "names of rows": "".join(
        f"{number}{line}\n"
        for number, line in zip(["", *(f"{n}," for n in range(1, 13))], PLAIN.splitlines(), strict=True)
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_same_series_however_it_is_written(tmp_path, way):
    path = written(tmp_path, WAYS[way])
    found = read_table(path)
    assert found.layout.targets == ("sales",)
    assert found.time_column == "date"
    np.testing.assert_allclose(found.series[0].values[:, 0], SALES)
    assert looks_like_series(path) == "a table with times in column 'date'"


def test_a_decimal_comma_is_told_and_decided_for_each_column(tmp_path):
    path = written(tmp_path, "date;lat;sales;count\n2024-01-01;48.137;1,5;1.234\n2024-01-02;48.1;2,25;1.235\n")
    sheet = read_sheet(path)
    assert sheet.frame["lat"].tolist() == [48.137, 48.1]
    assert sheet.frame["sales"].tolist() == [1.5, 2.25]
    assert sheet.frame["count"].tolist() == [1234, 1235]
    assert sheet.notes == ["Numbers are read with a decimal comma."]
    assert read_sheet(written(tmp_path, PLAIN)).notes == []


def test_named_encodings_are_read(tmp_path):
    path = written(tmp_path, PLAIN.replace("sales", "Größe").encode("cp1252"))
    assert read_table(path, encoding="cp1252").layout.targets == ("Größe",)
    with pytest.raises(UserError, match="row 1: byte 0xf6 is not UTF-8; name the file's encoding"):
        read_table(path)


def test_names_with_commas_can_be_asked_for(tmp_path):
    path = written(tmp_path, table(";", header='date{}"sales, net"'))
    read = task_type("forecasting").read
    for target in ('"sales, net"', ["sales, net"]):
        options = {"target": target, "horizon": 1, "look_back": 2}
        assert read(path, Reading(options=options)).data.content.layout.targets == ("sales, net",)


def test_two_columns_of_one_name_are_refused(tmp_path):
    with pytest.raises(UserError, match="two columns named 'sales'; rename one"):
        read_table(written(tmp_path, table(header="date{}sales,sales").replace("5\n", "5,1\n")))
    with pytest.raises(UserError, match="two columns named 'text'"):
        read_texts(written(tmp_path, "text,text,label\na b,c d,x\n"))


def test_a_column_that_counts_rows_is_kept_where_it_is_asked_for(tmp_path):
    path = written(tmp_path, WAYS["an index"])
    assert list(read_sheet(path).frame) == ["date", "sales"]
    assert list(read_sheet(path, keep=("Unnamed: 0",)).frame) == ["Unnamed: 0", "date", "sales"]


BAD = {
    "too many cells": ("2024-01-03,5,6,7", "row 4 of t.csv (4 columns where 2 are expected)"),
    "no number": ("2024-01-03,many", "row 4 of t.csv (column 'sales' has 'many', which is no number to use)"),
    "no date": ("once,5", "row 4 of t.csv (its time 'once' cannot be read)"),
    "no time": (",5", "row 4 of t.csv (its time"),
    "an open quote": ('2024-01-03,"5', "row 4 of t.csv (unexpected end of data)"),
    "a bad byte": (b"2024-01-03,\xe9", "row 4 of t.csv (it holds bytes that cannot be read)"),
    "infinity": ("2024-01-03,inf", "row 4 of t.csv (column 'sales' has 'inf'"),
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_rows_of_series_are_left_out_on_request_and_named(tmp_path, fault):
    row, told = BAD[fault]
    lines = PLAIN.encode().split(b"\n")
    lines[3] = row if isinstance(row, bytes) else row.encode()
    path = written(tmp_path, b"\n".join(lines))
    with pytest.raises(UserError, match="row 4"):
        read_table(path)
    found = read_table(path, skip_bad=True)
    assert any(note.startswith(f"1 row was left out: {told}") for note in found.notes), found.notes
    assert np.isnan(found.series[0].values[2, 0])
    assert np.isfinite(found.series[0].values).sum() == 11


def test_rows_are_numbered_as_in_an_editor(tmp_path):
    content = 'date,note,sales\n2024-01-01,"two\nlines",1\n\n2024-01-02,x,2\n2024-01-03,x,many\n2024-01-04,x,4\n'
    with pytest.raises(UserError, match="'many' in row 6"):
        read_table(written(tmp_path, content))


NAMES = ("0007", "07", "7", "NA", "None", "null", "True", "1.0", "1e3", "nan", "1_000")


def test_names_of_series_are_texts(tmp_path):
    rows = "".join(f"{name},{day},{place}\n" for name in NAMES for place, day in enumerate(DAYS))
    found = read_table(written(tmp_path, f"shop,date,sales\n{rows}"), series="shop")
    assert sorted(one.name for one in found.series) == sorted(NAMES)


def test_series_of_codes_are_found(tmp_path):
    rows = "".join(f"{name},{day},{place}\n" for name in ("0007", "0042") for place, day in enumerate(DAYS))
    assert read_table(written(tmp_path, f"shop,date,sales\n{rows}"), target="sales").series_column == "shop"


def test_classes_of_series_are_texts(tmp_path):
    random = np.random.default_rng(0)
    rows = "".join(
        f"{name},{','.join(f'{value:.4f}' for value in random.normal(place, 1, 8))}\n"
        for place, name in enumerate(NAMES)
        for _ in range(8)
    )
    content = f"code,{','.join(f't{step}' for step in range(8))}\n{rows}"
    found = read_labelled_series(written(tmp_path, content), label="code")
    assert set(found.class_names) == set(NAMES)
    assert found.class_names == in_order(NAMES)
    german = read_labelled_series(written(tmp_path, content.replace(",", ";").replace(".", ",")), label="code")
    np.testing.assert_allclose(german.raw[0], found.raw[0])
    bad = content.replace("\n0007,", "\nNA,high,1\n,1,2,3\n0007,", 1)
    assert any("2 rows were left out: row 2" in note for note in read_labelled_series(
        written(tmp_path, bad), label="code", skip_bad=True).notes)  # fmt: skip


def test_classes_of_texts_are_texts(tmp_path):
    rows = "".join(f"some words {place} of {name},{name}\n" for name in NAMES for place in range(8))
    found = read_texts(written(tmp_path, f"text,label\n{rows}"))
    assert set(found.class_names) == set(NAMES)
    assert found.column == "text"


def test_classes_stand_in_an_order_that_does_not_change():
    assert in_order(["b", "10", "007", "7", "nan", "07", "inf", "2"]) == (
        "2",
        "007",
        "07",
        "7",
        "10",
        "b",
        "inf",
        "nan",
    )


WORDS = "".join(f"some words, {place};{'good' if place % 2 else 'bad'}\n" for place in range(40))


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        (f"text;label\n{WORDS}", None),
        (f"text;label\n{WORDS}".encode("utf-16"), None),
        (f"sep=;\r\ntext;label\r\n{WORDS}".encode("utf-8-sig"), None),
        (f"text;label;;\n{WORDS}".replace("words", "Größen").encode("cp1252"), "cp1252"),
        (f"text|label\n{WORDS}".replace(";", "|"), None),
        (WORDS, None),
    ],
)
def test_texts_are_read_by_the_same_reader(tmp_path, content, encoding):
    found = read_texts(written(tmp_path, content, "T.CSV"), encoding=encoding)
    assert len(found.texts) == 40
    assert found.texts[3].endswith(", 3")
    assert found.class_names == ("bad", "good")


def test_halves_of_characters_in_texts_are_replaced_and_counted(tmp_path):
    lines = "".join(f'{{"text": "warm \\ud83d {place}", "label": {place % 2}}}\n' for place in range(20))
    found = read_texts(written(tmp_path, lines, "t.jsonl"))
    assert found.texts[0] == "warm \ufffd 0"
    assert "20 broken characters were replaced by U+FFFD." in found.notes
    whole = read_texts(written(tmp_path, lines.replace("\\ud83d", "\\ud83d\\ude00"), "t.jsonl"))
    assert whole.texts[0] == "warm 😀 0"
    assert not any("U+FFFD" in note for note in whole.notes)


def test_broken_json_lines_are_left_out_on_request(tmp_path):
    lines = "".join(f'{{"text": "warm {place}", "label": {place % 2}}}\n' for place in range(20))
    path = written(tmp_path, f"{lines}{{broken\n3\n", "t.jsonl")
    with pytest.raises(UserError, match="row 21"):
        read_texts(path)
    assert any(
        note.startswith("2 rows were left out: row 21 of t.jsonl") for note in read_texts(path, skip_bad=True).notes
    )
