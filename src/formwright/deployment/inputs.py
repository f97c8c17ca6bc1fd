"""What is given to predict: files, folders of them, standard input, texts, and tables of texts."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from formwright.data.delimited import told
from formwright.data.encodings import Decoded, decode, mended, read_bytes
from formwright.data.tables import LABEL_NAMES, SUFFIXES, TEXT_NAMES, read_texts_alone, table_of
from formwright.data.walk import Tree, some
from formwright.errors import UserError
from formwright.reporting import SILENT, Reporter

STANDARD_INPUT = "-"
#: Endings of files that hold one text each.
TEXT_SUFFIXES = (".txt", ".text", ".md", ".html")
#: Letters of the names of columns at most, and of the first line that is looked at.
_LONGEST_NAME, _LONGEST_HEADER = 40, 4000


@dataclass(frozen=True)
class InputOptions:
    """How inputs are read.

    Attributes:
        encoding: of files that are neither marked nor UTF-8.
        text_column: of the texts in tables; found if unset.
        skip_bad: leave out what cannot be used, and say so, instead of refusing all.
    """

    encoding: str | None = None
    text_column: str | None = None
    skip_bad: bool = False


#: Without any of them.
AS_FOUND = InputOptions()


def files_in(given: Sequence[str], suffixes: Collection[str], what: str, reporter: Reporter = SILENT) -> list[str]:
    """The inputs, with the files that have one of some endings in the place of each folder.

    Raises:
        UserError: a folder has none.
    """
    found = []
    for one in given:
        if not suffixes or not os.path.isdir(one):
            found.append(one)
            continue
        files: list[str] = []
        others: list[str] = []
        for entries in Tree(Path(one)).walk():
            for name in entries.files:
                path = entries.folder / name
                (files if path.suffix.lower() in suffixes else others).append(str(path))
        if not files:
            raise UserError(f"The folder {one} holds no {what}; name files, or a folder that has some.")
        if others:
            kinds = "file of another kind was" if len(others) == 1 else "files of other kinds were"
            reporter.note(
                f"{len(others)} {kinds} left out of {one}: {some([os.path.basename(file) for file in others])}."
            )
        found += files
    return found


@contextmanager
def as_files(given: Sequence[str]) -> Iterator[list[str]]:
    """The inputs, with a file of what comes on standard input in the place of ``-``."""
    if STANDARD_INPUT not in given:
        yield list(given)
        return
    content = standard_input()
    suffix = ".parquet" if content.startswith(b"PAR1") else ".feather" if content.startswith(b"ARROW1") else ".csv"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"input{suffix}")
        path.write_bytes(content)
        try:
            yield [str(path) if one == STANDARD_INPUT else one for one in given]
        except UserError as error:
            raise type(error)(str(error).replace(str(path), "Standard input")) from error


def standard_input() -> bytes:
    """All that comes on standard input.

    Raises:
        UserError: nothing does.
    """
    content = b"" if sys.stdin is None else sys.stdin.buffer.read()
    if not content.strip():
        raise UserError("Nothing came on standard input (-); pipe something into it, or name a file.")
    return content


def texts_in(
    given: Sequence[str], how: InputOptions, reporter: Reporter = SILENT, *, usual: str = "", rows: bool = True
) -> Iterator[tuple[str, str]]:
    """The texts that are given, and what each is called.

    An input is a file of one text, a table with a text in every row, ``-`` for either on standard input, or the text
    itself.

    Args:
        usual: the column that the texts of training were in.
        rows: whether tables are read by rows, and not as one text each, where no column is named.

    Raises:
        UserError: a text is empty, or a file is missing, empty or damaged.
    """
    for one in given:
        try:
            named = list(_texts_of(one, how, reporter, usual, rows))
        except UserError as error:
            if not how.skip_bad or len(given) == 1:
                raise
            reporter.note(f"Left out: {error}")
            continue
        yield from named


def _texts_of(given: str, how: InputOptions, reporter: Reporter, usual: str, rows: bool) -> Iterator[tuple[str, str]]:
    path = Path("standard input" if given == STANDARD_INPUT else given)
    suffix = path.suffix.lower()
    if given == STANDARD_INPUT or os.path.isfile(given):
        content = standard_input() if given == STANDARD_INPUT else read_bytes(path)
        decoded = decode(content, path, encoding=how.encoding, skip_bad=how.skip_bad)
        tabular = _is_table(decoded.text, usual) if given == STANDARD_INPUT else suffix in SUFFIXES
        if how.text_column is not None or (rows and tabular):
            yield from _rows_of(decoded, path, how, reporter, usual)
            return
        text = decode(content, path, encoding=how.encoding).text
        for note in told([], decoded.replaced):
            reporter.note(f"{path}: {note}")
        yield given, text
    elif suffix in (*TEXT_SUFFIXES, *SUFFIXES) and not any(letter.isspace() for letter in given):
        raise UserError(f"There is no file {given}; give a file, or a text in quotes.")
    elif not given.strip():
        raise UserError("An empty text was given; give a file, or a text in quotes.")
    else:
        text, replaced = mended(given)
        for note in told([], replaced):
            reporter.note(note)
        yield text, text


def _rows_of(
    decoded: Decoded, path: Path, how: InputOptions, reporter: Reporter, usual: str
) -> Iterator[tuple[str, str]]:
    def headed(rows: list[list[str]]) -> bool:
        names = [cell.strip() for cell in rows[0]]
        known = {how.text_column, usual} & {*names} or {name.lower() for name in names} & {*TEXT_NAMES, *LABEL_NAMES}
        short = len(names) > 1 and all(0 < len(name) <= _LONGEST_NAME and " " not in name for name in names)
        return bool(known) or short

    json = path.suffix.lower() not in (".csv", ".tsv") and decoded.text.lstrip()[:1] in ("{", "[")
    table = table_of(decoded, path, json=json, headed=headed, skip_bad=how.skip_bad)
    texts, numbers = read_texts_alone(table, how.text_column, usual=usual, skip_bad=how.skip_bad)
    for note in table.notes:
        reporter.note(note)
    for text, number in zip(texts, numbers, strict=True):
        yield f"{path}:{number}", text


def _is_table(text: str, usual: str) -> bool:
    """Whether a text that has no name begins as a table of texts does: with the name of a column, or a JSON object."""
    first, _, rest = text.lstrip().partition("\n")
    if first.startswith("{") and first.rstrip().endswith("}"):
        return '"' in first
    if not rest.strip() or len(first) > _LONGEST_HEADER:
        return False
    for separator in ",;\t|":
        names = [name.strip().strip('"') for name in first.split(separator)]
        words = all(0 < len(name) <= _LONGEST_NAME and " " not in name for name in names)
        if (usual and usual in names) or (words and {name.lower() for name in names} & {*TEXT_NAMES}):
            return True
    return False
