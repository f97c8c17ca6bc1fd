"""Forecasts that are added to a user's table: it keeps what it looks like, and every byte that it had."""

from __future__ import annotations

import os

import numpy as np
import pytest

from formwright.deployment.appending import append_forecasts
from formwright.deployment.forecasts import Forecast
from formwright.errors import UserError

PLAIN = "date,sales\n2024-01-01,1\n2024-01-02,2\n"


def forecast(times=("2024-01-03", "2024-01-04"), series="", series_column=None):
    values = np.array([[1.5], [2.25]])
    return Forecast(series, list(times), ("sales",), values, values - 1, values + 1, 0.9, "date", series_column)


def added(path, content, given=None, **options):
    """What stands behind the bytes that were there before."""
    before = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(before)
    assert append_forecasts(path, [given or forecast()], **options) == 2
    after = path.read_bytes()
    assert after.startswith(before)
    return after[len(before) :]


DOTS, SLASHES = ("03.01.2024", "04.01.2024"), ("2024/01/03", "2024/01/04")
STYLES = {
    "plain": (PLAIN, "2024-01-03,1.5\n2024-01-04,2.25\n"),
    "no last end of line": (PLAIN[:-1], "\n2024-01-03,1.5\n2024-01-04,2.25"),
    "Windows": (PLAIN.replace("\n", "\r\n"), "2024-01-03,1.5\r\n2024-01-04,2.25\r\n"),
    "old Mac": (PLAIN.replace("\n", "\r"), "2024-01-03,1.5\r2024-01-04,2.25\r"),
    "blank lines": (PLAIN + "\n\n", "2024-01-03,1.5\n2024-01-04,2.25\n"),
    "a mark": ("\ufeff" + PLAIN, "2024-01-03,1.5\n2024-01-04,2.25\n"),
    "decimal commas": (
        "date;sales\n2024-01-01;1,5\n2024-01-02;2,5\n",
        "2024-01-03;1,5\n2024-01-04;2,25\n",
    ),
    "thousands points": (
        "date;sales\n2024-01-01;1.000,5\n2024-01-02;2.000,5\n",
        "2024-01-03;1,5\n2024-01-04;2,25\n",
    ),
    "decimal commas in quotes": (
        'date,sales\n2024-01-01,"1,5"\n2024-01-02,"2,5"\n',
        '2024-01-03,"1,5"\n2024-01-04,"2,25"\n',
    ),
    "quotes": (
        '"date","sales"\n"2024-01-01","1"\n"2024-01-02","2"\n',
        '"2024-01-03","1.5"\n"2024-01-04","2.25"\n',
    ),
    "quoted texts": (
        '"date","sales"\n"2024-01-01",1\n"2024-01-02",2\n',
        '"2024-01-03",1.5\n"2024-01-04",2.25\n',
    ),
    "tabs": (PLAIN.replace(",", "\t"), "2024-01-03\t1.5\n2024-01-04\t2.25\n"),
    "pipes": (PLAIN.replace(",", "|"), "2024-01-03|1.5\n2024-01-04|2.25\n"),
    "blanks": (PLAIN.replace(",", ", "), "2024-01-03, 1.5\n2024-01-04, 2.25\n"),
    "empty columns": (PLAIN.replace("\n", ",,\n"), "2024-01-03,1.5,,\n2024-01-04,2.25,,\n"),
    "an index": (",date,sales\n0,2024-01-01,1\n1,2024-01-02,2\n", "2,2024-01-03,1.5\n3,2024-01-04,2.25\n"),
    "other columns": (
        "sales,note,date\n1,a,2024-01-01\n2,b,2024-01-02\n",
        "1.5,,2024-01-03\n2.25,,2024-01-04\n",
    ),
    "the hint of spreadsheets": (
        "sep=;\ndate;sales\n2024-01-01;1,5\n2024-01-02;2,5\n",
        "2024-01-03;1,5\n2024-01-04;2,25\n",
    ),
    "a header alone": ("date,sales\n", "2024-01-03,1.5\n2024-01-04,2.25\n"),
    "times of day": (
        "date,sales\n2024-01-01 00:00:00,1\n2024-01-02 00:00:00,2\n",
        "2024-01-03 00:00:00,1.5\n2024-01-04 00:00:00,2.25\n",
    ),
    "slashes": (PLAIN.replace("-", "/"), "2024/01/03,1.5\n2024/01/04,2.25\n"),
}


@pytest.mark.parametrize("style", STYLES)
def test_a_table_keeps_what_it_looks_like(tmp_path, style):
    before, expected = STYLES[style]
    assert added(tmp_path / "t.csv", before).decode() == expected


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32"])
def test_wide_encodings(tmp_path, encoding):
    content = "date;sales\n2024-01-01;1,5\n2024-01-02;2,5\n".encode(encoding)
    codec = {"utf-16": "utf-16-le", "utf-32": "utf-32-le"}.get(encoding, encoding)
    assert added(tmp_path / "t.csv", content).decode(codec) == "2024-01-03;1,5\n2024-01-04;2,25\n"


def test_a_named_encoding(tmp_path):
    path, content = tmp_path / "t.csv", "shop,date,sales\nKöln,2024-01-01,1\nKöln,2024-01-02,2\n".encode("cp1252")
    more = added(path, content, forecast(series="Köln", series_column="shop"), encoding="cp1252")
    assert more.decode("cp1252") == "Köln,2024-01-03,1.5\nKöln,2024-01-04,2.25\n"
    path.write_bytes(content)
    with pytest.raises(UserError, match="byte 0xf6 is not UTF-8; name the file's encoding"):
        append_forecasts(path, [forecast()])
    with pytest.raises(UserError, match="is in cp1252, which has no 'к'"):
        append_forecasts(path, [forecast(series="кот", series_column="shop")], encoding="cp1252")
    assert path.read_bytes() == content


def test_names_stay_texts(tmp_path):
    content = "shop,date,sales\n0007,2024-01-01,1\n0007,2024-01-02,2\n"
    more = added(tmp_path / "t.csv", content, forecast(series="0007", series_column="shop"))
    assert more == b"0007,2024-01-03,1.5\n0007,2024-01-04,2.25\n"
    comma = added(tmp_path / "t.csv", content, forecast(series="a, b", series_column="shop"))
    assert comma == b'"a, b",2024-01-03,1.5\n"a, b",2024-01-04,2.25\n'


def test_links_and_rights_stay(tmp_path):
    path, link = tmp_path / "t.csv", tmp_path / "link.csv"
    path.write_text(PLAIN)
    path.chmod(0o640)
    link.symlink_to(path)
    append_forecasts(link, [forecast()])
    assert link.is_symlink()
    assert path.read_text().endswith("2024-01-04,2.25\n")
    assert path.stat().st_mode & 0o777 == 0o640
    assert sorted(one.name for one in tmp_path.iterdir()) == ["link.csv", "t.csv"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write every file")
def test_a_file_that_may_not_be_written_is_left_alone(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(PLAIN)
    path.chmod(0o440)
    with pytest.raises(UserError, match="could not be written"):
        append_forecasts(path, [forecast()])
    assert path.read_text() == PLAIN


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (PLAIN + "2024-01-03,3\n", "has a row of 2024-01-03 already"),
        (PLAIN + "2024-01-04T00:00:00,3\n", "has a row of 2024-01-04T00:00:00 already"),
        ("day,sales\n2024-01-01,1\n", "has no column 'date'"),
        ("date,sales\n20240101,1\n20240102,2\n", "writes times as 20240102, and the forecast is of 2024-01-03"),
        ("date,sales\nJan 1 2024,1\nJan 2 2024,2\n", "writes times as Jan 2 2024"),
    ],
)
def test_what_would_be_no_series_is_refused(tmp_path, content, words):
    path = tmp_path / "t.csv"
    path.write_text(content)
    with pytest.raises(UserError, match=words):
        append_forecasts(path, [forecast()])
    assert path.read_text() == content


def test_dates_as_the_table_writes_them(tmp_path):
    content = "date;sales\n01.01.2024;1\n02.01.2024;2\n"
    assert added(tmp_path / "t.csv", content, forecast(DOTS)) == b"03.01.2024;1.5\n04.01.2024;2.25\n"
    zoned = "date,sales\n2024-01-01T00:00:00Z,1\n2024-01-02T00:00:00Z,2\n"
    given = forecast(("2024-01-03T00:00:00Z", "2024-01-04T00:00:00Z"))
    assert added(tmp_path / "t.csv", zoned, given) == b"2024-01-03T00:00:00Z,1.5\n2024-01-04T00:00:00Z,2.25\n"


def test_what_is_no_table_of_text_is_refused(tmp_path):
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    for name in ("t.parquet", "t.feather", "."):
        with pytest.raises(UserError, match="appended to tables as text"):
            append_forecasts(tmp_path / name, [forecast()])
    with pytest.raises(UserError, match="Only forecasts of series can be appended"):
        append_forecasts(tmp_path / "t.csv", ["a class"])
