"""From bytes to text: marks, UTF-16, named encodings, and halves of characters."""

from __future__ import annotations

import pytest

from formwright.data.encodings import decode, mended, start_of
from formwright.errors import UserError

TEXT = "Größe;кот 😀\n1;2\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_marks_and_utf_8_need_no_name(encoding):
    decoded = decode(TEXT.encode(encoding), "t.csv")
    assert decoded.text == TEXT
    assert decoded.mark + TEXT.encode(decoded.encoding) == TEXT.encode(encoding)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_known_by_its_zeros(encoding):
    plain = "date,sales\n2024-01-01,5\n"
    assert decode(plain.encode(encoding), "t.csv").text == plain
    assert decode(plain.encode(encoding), "t.csv", encoding="utf-16").text == plain


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "cp850", "mac-roman", "utf8"])
def test_an_encoding_can_be_named(encoding):
    assert decode("Größe\n".encode(encoding), "t.csv", encoding=encoding).text == "Größe\n"


@pytest.mark.parametrize(
    ("content", "encoding", "words"),
    [
        (
            b"a\nb\xe9\n",
            None,
            r"t\.csv, row 2: byte 0xe9 is not UTF-8; name the file's encoding, such as --encoding cp1252",
        ),
        (b"a\nb\x81\n", "cp1252", r"t\.csv, row 2: byte 0x81 is not cp1252; name another one with --encoding"),
        (b"a\n", "utf-16", r"t\.csv is not in utf-16"),
        (b"\xff\xfea\0\n\0", "cp1252", r"t\.csv has the mark of utf-16-le at its front; leave --encoding cp1252 out"),
        (b"a\n", "klingon", "There is no encoding 'klingon'"),
        (b"a\n", "base64", "There is no encoding 'base64'"),
        (b"\xff\xfea", None, "is not utf-16-le"),
    ],
)
def test_a_wrong_encoding_is_one_sentence(content, encoding, words):
    with pytest.raises(UserError, match=words) as told:
        decode(content, "t.csv", encoding=encoding)
    assert "\n" not in str(told.value)


def test_halves_of_characters_are_joined_or_replaced_and_counted():
    joined = decode(b"so \xed\xa0\xbd\xed\xb8\x80", "t.csv")
    assert (joined.text, joined.replaced) == ("so 😀", 0)
    alone = decode(b"so \xed\xa0\xbd, \xed\xb8\x80", "t.csv")
    assert (alone.text, alone.replaced) == ("so \ufffd, \ufffd", 2)
    assert decode("an own \ufffd".encode(), "t.csv").replaced == 0


def test_arguments_are_mended():
    assert mended("whole 😀") == ("whole 😀", 0)
    assert mended("caf\udce9") == ("caf\ufffd", 1)
    assert mended("\udcd0\udcba\udcd0\udcbe\udcd1\udc82") == ("кот", 0)  # UTF-8 on a console of ASCII
    assert mended("half \ud83d") == ("half \ufffd", 1)


def test_the_start_of_a_file_ends_with_a_line(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(("a,b\n" * 100).encode("utf-16"))
    assert set(start_of(path, 99).split("\n")) == {"a,b"}
