"""Tables of texts: CSV, TSV and JSON lines, with every fault named by its row."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from formwright.data.walk import some
from formwright.errors import UserError

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")
TEXT_NAMES = ("text", "sentence", "review", "content", "comment", "message", "document", "tweet", "utterance", "body",
              "question", "title", "description")  # fmt: skip
LABEL_NAMES = ("label", "class", "category", "target", "sentiment", "labels", "topic", "intent", "rating", "y")
#: Rows that inference looks at.
LOOK_AT = 2000
csv.field_size_limit(1 << 30)  # a text may be a book


@dataclass
class Rows:
    """The texts and labels of a table, and the row of each (from 1, the header included).

    ``skipped`` says of rows that were left out why; ``guess`` what was inferred of the columns, in a sentence.
    """

    path: Path
    texts: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    guess: str = ""


@dataclass
class Table:
    """Cells by row; ``columns`` are the header's names, or ``column 1`` and so on where there is no header."""

    path: Path
    columns: list[str]
    cells: list[list[str]]
    numbers: list[int]
    headed: bool


def decode(content: bytes, path: Path, *, skip_bad: bool) -> str:
    """The text of a UTF-8 file, with or without a mark at its front.

    With ``skip_bad``, bytes that are none become U+FFFD, which rows are dropped for.

    Raises:
        UserError: names the line.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if skip_bad:
            return content.decode("utf-8-sig", "replace")
        line = content[: error.start].count(b"\n") + 1
        raise UserError(
            f"{path}, row {line}: byte 0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8, or leave "
            "such rows out with --skip-bad (skip_bad=True)."
        ) from None


def read_bytes(path: Path) -> bytes:
    """The content of a file; raises :class:`UserError` where it cannot be read or is empty."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"There is no {path}; check the path.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); give yourself the right to read it.") from error
    if not content.strip():
        raise UserError(f"{path} is empty; texts are expected in it.")
    return content


def read_rows(path: Path, text_column: str | None, label_column: str | None, *, skip_bad: bool) -> Rows:
    """Texts and labels of a table.

    Raises:
        UserError: the file is damaged, a column is missing or cannot be told from the others, or a row is.
    """
    table = read_table(path, skip_bad=skip_bad)
    text, label = find_columns(table, text_column, label_column)
    names = table.columns
    rows = Rows(path)
    if text_column is None or label_column is None or not table.headed:
        header = "" if table.headed else " It has no header."
        rows.guess = f"{path.name}: texts are in {names[text]!r}, labels in {names[label]!r}.{header}"
    for number, cells in zip(table.numbers, table.cells, strict=True):
        fault = _fault(cells, names, text, label)
        if fault and not skip_bad:
            raise UserError(f"{path}, row {number}: {fault}; mend it, or leave such rows out with --skip-bad.")
        if fault:
            rows.skipped.append(f"row {number} of {path.name} ({fault})")
            continue
        rows.texts.append(cells[text].strip())
        rows.labels.append(cells[label].strip())
        rows.numbers.append(number)
    return rows


def _fault(cells: list[str], names: Sequence[str], text: int, label: int) -> str:
    if len(cells) != len(names):
        return f"{len(cells)} columns where {len(names)} are expected"
    for column in (text, label):
        if not cells[column].strip():
            return f"the column {names[column]!r} is empty"
        if "\N{REPLACEMENT CHARACTER}" in cells[column]:
            return f"the column {names[column]!r} holds bytes that are not UTF-8"
    return ""


def read_table(path: Path, *, skip_bad: bool) -> Table:
    """The cells of a CSV, TSV or JSON file, by its name; see :func:`read_rows`."""
    content = decode(read_bytes(path), path, skip_bad=skip_bad)
    if path.suffix in (".csv", ".tsv"):
        return _separated(content, path)
    return _json(content, path)


def _separated(content: str, path: Path) -> Table:
    separator = "\t" if path.suffix == ".tsv" else _separator(content)
    if separator == "\t":
        # Tab-separated files mostly know no quotes: a quote in a text is one.
        rows = _parse(content, path, separator, csv.QUOTE_NONE)
        if len({len(cells) for _, cells in rows}) > 1:
            rows = _parse(content, path, separator, csv.QUOTE_MINIMAL)
    else:
        rows = _parse(content, path, separator, csv.QUOTE_MINIMAL)
    width = len(rows[0][1])
    if width < 2:
        raise UserError(f"{path} has one column only; a column of texts and one of labels are expected.")
    headed = _headed([cells for _, cells in rows[: LOOK_AT + 1]])
    columns = [name.strip() for name in rows[0][1]] if headed else [f"column {place + 1}" for place in range(width)]
    body = rows[1:] if headed else rows
    if not body:
        raise UserError(f"{path} has a header and no rows; texts and labels are expected below it.")
    return Table(path, columns, [cells for _, cells in body], [number for number, _ in body], headed)


def _separator(content: str) -> str:
    first = content.partition("\n")[0]
    return max(",;\t|", key=first.count)


def _parse(content: str, path: Path, separator: str, quoting: Literal[0, 3]) -> list[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=separator, quoting=quoting, strict=True)
    rows, number = [], 1
    try:
        for cells in reader:
            if cells:
                rows.append((number, cells))
            number = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path}, row {number}: {error}; mend the quotes of that row.") from None
    return rows


def _headed(rows: list[list[str]]) -> bool:
    """Whether the first row names columns: it has a usual name, or no short value that comes again below it."""
    first = [cell.strip().lower() for cell in rows[0]]
    if set(first) & {*TEXT_NAMES, *LABEL_NAMES}:
        return True
    if len(set(first)) < len(first) or not all(first) or any(len(cell) > 40 for cell in first):
        return False
    below = [[cell.strip().lower() for cell in row] for row in rows[1:] if len(row) == len(first)]
    few = [place for place in range(len(first)) if len({row[place] for row in below}) <= max(2, len(below) // 10)]
    return bool(few) and all(first[place] not in {row[place] for row in below} for place in few)


def _json(content: str, path: Path) -> Table:
    records = list(_records(content, path))
    columns = list(dict.fromkeys(name for _, record in records for name in record))
    cells = [[_as_text(record.get(name)) for name in columns] for _, record in records]
    return Table(path, columns, cells, [number for number, _ in records], headed=True)


def _records(content: str, path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    whole = content.lstrip().startswith("[")
    lines: list[tuple[int, str]] = (
        [(1, content)] if whole else [(n, line) for n, line in enumerate(content.split("\n"), 1) if line.strip()]
    )
    for number, line in lines:
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(
                f"{path}, row {number + error.lineno - 1}: {error.msg}; a JSON object is expected."
            ) from None
        for place, record in enumerate(value if whole else [value], 1):
            if not isinstance(record, dict):
                raise UserError(
                    f"{path}, row {place if whole else number}: an object with a text and a label is expected."
                )
            yield (place if whole else number), record


def _as_text(value: object) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def find_columns(table: Table, text: str | None, label: str | None) -> tuple[int, int]:
    """The places of the columns of texts and labels: those that are named, or what they are called or hold.

    Raises:
        UserError: there is no such column, or more than one may be meant.
    """
    chosen_text = None if text is None else _place(table, text, "--text-column")
    chosen_label = None if label is None else _place(table, label, "--label-column")
    lower = [name.lower() for name in table.columns]
    sample = [cells for cells in table.cells[:LOOK_AT] if len(cells) == len(lower)]
    if not sample:
        raise UserError(f"{table.path}, row {table.numbers[0]}: the number of its columns does not match the header.")
    lengths = [sum(len(cells[place]) for cells in sample) / len(sample) for place in range(len(lower))]
    kinds = [len({cells[place].strip() for cells in sample}) for place in range(len(lower))]
    if chosen_text is None:
        free = [place for place in range(len(lower)) if place != chosen_label]
        chosen_text = _named(lower, TEXT_NAMES, free)
        if chosen_text is None:
            chosen_text = max(free, key=lambda place: lengths[place])
    if chosen_label is None:
        free = [place for place in range(len(lower)) if place != chosen_text]
        chosen_label = _named(lower, LABEL_NAMES, free)
        if chosen_label is None:
            fits: Callable[[int], bool] = lambda place: 2 <= kinds[place] <= max(2, len(sample) // 3)  # noqa: E731
            able = [place for place in free if fits(place)] or (free if len(free) == 1 else [])
            if len(able) != 1:
                raise UserError(
                    f"{table.path} has the columns {some([repr(name) for name in table.columns], 8)}, and which one "
                    "holds the labels cannot be told; name it with --label-column."
                )
            chosen_label = able[0]
    if chosen_text == chosen_label:
        raise UserError(f"{table.columns[chosen_text]!r} was named for the texts and for the labels; name two columns.")
    return chosen_text, chosen_label


def _place(table: Table, name: str, option: str) -> int:
    if name in table.columns:
        return table.columns.index(name)
    if name.isdigit() and 1 <= int(name) <= len(table.columns):
        return int(name) - 1
    known = some([repr(column) for column in table.columns], 8)
    raise UserError(f"{table.path} has no column {name!r} ({option}); its columns are: {known}.")


def _named(columns: Sequence[str], names: Sequence[str], free: Sequence[int]) -> int | None:
    return next((columns.index(name) for name in names if name in columns and columns.index(name) in free), None)
