"""From the bytes of users' files to text: which encoding they are in, and what cannot be read named by its row."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from pathlib import Path

from formwright.errors import UserError

#: Marks at the front of a file, the longer first, and the codec of what follows.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_WIDE = re.compile(r"utf-(16|32)")
#: To tell UTF-16 without a mark, bytes that are looked at, at most and at least, and the share of every second one that
#: is zero.
_SNIFF, _FEWEST, _ZEROS = 4096, 16, 0.4
#: Halves of characters, as some programs write them: each half of a surrogate pair as three bytes.
_HALVES = re.compile(rb"(?:\xed[\xa0-\xbf][\x80-\xbf])+")
_HALF = re.compile("[\ud800-\udfff]")
#: Bytes that could not be read, as they stand in a text that was decoded with ``skip_bad``.
ESCAPED = re.compile("[\udc80-\udcff]")
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class Decoded:
    """The text of a file.

    Attributes:
        text: without the mark.
        encoding: the codec of what follows the mark.
        mark: the mark at the front, if there is one.
        replaced: broken characters that stand as U+FFFD now.
    """

    text: str
    encoding: str = "utf-8"
    mark: bytes = b""
    replaced: int = 0


def read_bytes(path: Path, what: str = "texts are") -> bytes:
    """The content of a file; raises :class:`UserError` where it cannot be read or is empty."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"There is no {path}; check the path.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); give yourself the right to read it.") from error
    if not content.strip():
        raise UserError(f"{path} is empty; {what} expected in it.")
    return content


def decode(content: bytes, path: Path | str, *, encoding: str | None = None, skip_bad: bool = False) -> Decoded:
    """The text of a file: by its mark, as UTF-16 where every second byte is zero, in ``encoding``, else as UTF-8.

    With ``skip_bad``, bytes that cannot be read stand as :data:`ESCAPED`, which rows are dropped for. Halves of
    characters are joined, or replaced by U+FFFD and counted.

    Raises:
        UserError: there is no such encoding, or a byte is not of it; names the row.
    """
    named = None if encoding is None else _codec(encoding)
    codec, mark = _sniffed(content, named)
    if named is not None and mark and not _agree(named, codec):
        raise UserError(f"{path} has the mark of {_spoken(codec)} at its front; leave --encoding {encoding} out.")
    if named is not None and _WIDE.match(named) and not mark and b"\0" not in content[:_SNIFF]:
        raise UserError(f"{path} is not in {encoding}, which has zero bytes; name another one with --encoding.")
    body, replaced = content[len(mark) :], 0
    try:
        if codec == "utf-8" and b"\xed" in body:
            body, replaced = _joined_halves(body)
        return Decoded(body.decode(codec), codec, mark, replaced)
    except UnicodeError as error:
        start = error.start if isinstance(error, UnicodeDecodeError) else 0
        if skip_bad and not _WIDE.match(codec):
            return Decoded(body.decode(codec, "surrogateescape"), codec, mark, replaced)
        row = body[:start].decode(codec, "replace").count("\n") + 1
        rest = f"byte 0x{body[start]:02x} is not {_spoken(codec)}"
        remedy = "name another one with --encoding" if named else "name the file's encoding, such as --encoding cp1252"
        raise UserError(f"{path}, row {row}: {rest}; {remedy}, or leave it out with --skip-bad.") from None


def start_of(path: Path, most: int) -> str:
    """The whole lines at the start of a file, whatever bytes it holds; raises ``OSError``.

    Of a line that is longer than that, its start.
    """
    with path.open("rb") as file:
        content = file.read(most)
    codec, mark = _sniffed(content, None)
    text = content[len(mark) :].decode(codec, "replace")
    return text.rpartition("\n")[0] if len(content) == most and text.count("\n") > 1 else text


def marked_wide(start: bytes) -> bool:
    """Whether the start of a file shows that it is text in UTF-16 or UTF-32."""
    return _sniffed(start, None)[0] != "utf-8"


def joined(text: str) -> str:
    """Halves of characters joined where both are there, else replaced by U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def mended(text: str) -> tuple[str, int]:
    """A text without halves of characters, and how many were replaced; bytes that Python escaped are read as UTF-8."""
    if not _HALF.search(text):
        return text, 0
    try:  # an argument of the command line
        whole = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    except UnicodeEncodeError:
        whole = joined(text)
    return whole, whole.count(REPLACEMENT) - text.count(REPLACEMENT)


def is_unicode(text: str) -> bool:
    """Whether a text has no half of a character and no escaped byte, as the name of a file may have."""
    return _HALF.search(text) is None


def _joined_halves(content: bytes) -> tuple[bytes, int]:
    replaced = 0

    def join(found: re.Match[bytes]) -> bytes:
        nonlocal replaced
        whole = joined(found[0].decode("utf-8", "surrogatepass"))
        replaced += whole.count(REPLACEMENT)
        return whole.encode()

    return _HALVES.sub(join, content), replaced


def _sniffed(content: bytes, named: str | None) -> tuple[str, bytes]:
    for mark, codec in _MARKS:
        if content.startswith(mark):
            return codec, mark
    if named is not None and named != "utf-16":
        return f"{named}-le" if _WIDE.fullmatch(named) else named, b""
    start = content[:_SNIFF]
    for codec, place in (("utf-16-le", 1), ("utf-16-be", 0)):
        if (
            len(start) >= _FEWEST
            and start[place::2].count(0) > _ZEROS * len(start) / 2
            and start[1 - place :: 2].count(0) == 0
        ):
            return codec, b""
    return "utf-8" if named is None else "utf-16-le", b""


def _codec(name: str) -> str:
    try:
        found = codecs.lookup(name)
    except (LookupError, ValueError):
        found = None
    if found is None or not found._is_text_encoding:
        raise UserError(f"There is no encoding {name!r}; name one such as utf-8, utf-16, cp1252 or shift_jis.")
    return "utf-8" if found.name == "utf-8-sig" else found.name


def _agree(named: str, codec: str) -> bool:
    return codec == named or codec.startswith(f"{named}-")


def _spoken(codec: str) -> str:
    return {"utf-8": "UTF-8"}.get(codec, codec)
