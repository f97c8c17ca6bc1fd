"""Tables of texts: CSV, TSV and JSON lines, with every fault named by its row."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from formwright.data.delimited import Table, separated
from formwright.data.encodings import ESCAPED, REPLACEMENT, Decoded, decode, joined, read_bytes
from formwright.data.walk import some
from formwright.errors import UserError

SEPARATED = (".csv", ".tsv")
SUFFIXES = (*SEPARATED, ".jsonl", ".ndjson", ".json")
TEXT_NAMES = ("text", "sentence", "review", "content", "comment", "message", "document", "tweet", "utterance", "body",
              "question", "title", "description")  # fmt: skip
LABEL_NAMES = ("label", "class", "category", "target", "sentiment", "labels", "topic", "intent", "rating", "y")
#: Rows that inference looks at.
LOOK_AT = 2000


@dataclass
class Rows:
    """The texts and labels of a table, and the row of each (from 1, the header included).

    ``skipped`` says of rows that were left out why, ``replaced`` how many halves of characters were replaced,
    ``guess`` what was inferred of the columns, in a sentence, and ``column`` what a header calls the texts.
    """

    path: Path
    texts: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    replaced: int = 0
    guess: str = ""
    column: str = ""


def read_rows(
    path: Path, text_column: str | None, label_column: str | None, *, encoding: str | None = None, skip_bad: bool
) -> Rows:
    """Texts and labels of a table.

    Raises:
        UserError: the file is damaged, a column is missing or cannot be told from the others, or a row is.
    """
    table = read_table(path, headed=_headed, encoding=encoding, skip_bad=skip_bad)
    if len(table.columns) < 2:
        raise UserError(f"{path} has one column only; a column of texts and one of labels are expected.")
    text, label = find_columns(table, text_column, label_column)
    names = table.columns
    rows = Rows(path, column=names[text] if table.headed else "")
    if text_column is None or label_column is None or not table.headed:
        header = "" if table.headed else " It has no header."
        rows.guess = f"{path.name}: texts are in {names[text]!r}, labels in {names[label]!r}.{header}"
    for number, cells in sound_rows(table, (text, label), skip_bad=skip_bad):
        rows.texts.append(cells[text].strip())
        rows.labels.append(cells[label].strip())
        rows.numbers.append(number)
    rows.skipped, rows.replaced = table.skipped, table.replaced
    return rows


def read_texts_alone(
    table: Table, text_column: str | None, *, usual: str = "", skip_bad: bool = False
) -> tuple[list[str], list[int]]:
    """The texts of a table without regard to labels, and the row of each.

    Args:
        text_column: where they are; found if unset.
        usual: the column that the texts of training were in.

    Raises:
        UserError: there is no such column, or a row has no text.
    """
    place = find_text(table, text_column, usual)
    rows = list(sound_rows(table, (place,), skip_bad=skip_bad))
    return [cells[place].strip() for _, cells in rows], [number for number, _ in rows]


def sound_rows(table: Table, needed: Sequence[int], *, skip_bad: bool) -> Iterator[tuple[int, list[str]]]:
    """The rows of a table that hold something readable in the columns that are needed, with their numbers.

    Raises:
        UserError: a row does not, unless such rows are to be left out, which ``table.skipped`` then says.
    """
    if not table.cells:
        raise UserError(f"{table.path} has a header and no rows; rows are expected below it.")
    for number, cells in zip(table.numbers, table.cells, strict=True):
        fault = _fault(cells, table.columns, needed)
        if not fault:
            yield number, cells
        elif skip_bad:
            table.drop(number, fault)
        else:
            raise UserError(f"{table.path}, row {number}: {fault}; mend it, or leave such rows out with --skip-bad.")


def _fault(cells: list[str], names: Sequence[str], needed: Sequence[int]) -> str:
    if len(cells) <= max(needed):
        return f"{len(cells)} column{'s' * (len(cells) != 1)} where {len(names)} are expected"
    for column in needed:
        if not cells[column].strip():
            return f"the column {names[column]!r} is empty"
        if ESCAPED.search(cells[column]):
            return f"the column {names[column]!r} holds bytes that cannot be read"
    return ""


def read_table(
    path: Path,
    *,
    headed: Callable[[list[list[str]]], bool],
    encoding: str | None = None,
    skip_bad: bool = False,
) -> Table:
    """The cells of a CSV, TSV or JSON file, by its name; ``headed`` says whether the first of some rows is a header."""
    decoded = decode(read_bytes(path), path, encoding=encoding, skip_bad=skip_bad)
    return table_of(decoded, path, json=path.suffix.lower() not in SEPARATED, headed=headed, skip_bad=skip_bad)


def table_of(
    decoded: Decoded, path: Path, *, json: bool, headed: Callable[[list[list[str]]], bool], skip_bad: bool = False
) -> Table:
    """The cells of a text of separated values, or of JSON; see :func:`read_table`."""
    return _json(decoded, path, skip_bad) if json else separated(decoded, path, headed=headed, skip_bad=skip_bad)


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


def _json(decoded: Decoded, path: Path, skip_bad: bool) -> Table:
    table = Table(path, [], [], [], replaced=decoded.replaced)
    records = list(_records(decoded.text, table, skip_bad))
    table.columns = list(dict.fromkeys(name for _, record in records for name in record))
    for number, record in records:
        cells = [_as_text(record.get(name)) for name in table.columns]
        whole = [cell if cell.isascii() or (ESCAPED.search(cell) and skip_bad) else joined(cell) for cell in cells]
        table.replaced += "".join(whole).count(REPLACEMENT) - "".join(cells).count(REPLACEMENT)
        table.cells.append(whole)
        table.numbers.append(number)
    return table


def _records(content: str, table: Table, skip_bad: bool) -> Iterator[tuple[int, dict[str, object]]]:
    whole = content.lstrip().startswith("[") or _is_object(content)
    lines: list[tuple[int, str]] = (
        [(1, content)] if whole else [(n, line) for n, line in enumerate(content.split("\n"), 1) if line.strip()]
    )
    for number, line in lines:
        try:
            value = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            row, reason = number, "it is nested too deeply"
            if isinstance(error, json.JSONDecodeError):
                row, reason = number + error.lineno - 1, error.msg
            if skip_bad and not whole:
                table.drop(row, reason)
                continue
            raise UserError(f"{table.path}, row {row}: {reason}; a JSON object is expected.") from None
        for place, record in enumerate(value if isinstance(value, list) and whole else [value], 1):
            row = place if whole else number
            if isinstance(record, dict):
                yield row, record
            elif isinstance(record, str):
                yield row, {"text": record}
            elif skip_bad:
                table.drop(row, "it is no object")
            else:
                raise UserError(f"{table.path}, row {row}: an object with a text and a label is expected.")


def _is_object(content: str) -> bool:
    """Whether a text is one object that is written over several lines."""
    start = content.lstrip()
    if not start.startswith("{"):
        return False
    try:
        json.loads(start.partition("\n")[0])
    except (json.JSONDecodeError, RecursionError):
        try:
            return isinstance(json.loads(content), dict)
        except (json.JSONDecodeError, RecursionError):
            return False
    return False


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
    sample = _sample(table)
    kinds = [len({cells[place].strip() for cells in sample}) for place in range(len(lower))]
    if chosen_text is None:
        chosen_text = _text_among(table, [place for place in range(len(lower)) if place != chosen_label])
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


def find_text(table: Table, text: str | None, usual: str = "") -> int:
    """The place of the column of texts: that which is named, that of training, or what it is called or holds."""
    if text is not None:
        return _place(table, text, "--text-column")
    if usual in table.columns:
        return table.columns.index(usual)
    return _text_among(table, range(len(table.columns)))


def _text_among(table: Table, free: Sequence[int]) -> int:
    place = _named([name.lower() for name in table.columns], TEXT_NAMES, free)
    if place is not None:
        return place
    sample = _sample(table)
    return max(free, key=lambda place: sum(len(cells[place]) for cells in sample))


def _sample(table: Table) -> list[list[str]]:
    sample = [cells for cells in table.cells[:LOOK_AT] if len(cells) == len(table.columns)]
    if not sample and table.cells:
        raise UserError(f"{table.path}, row {table.numbers[0]}: the number of its columns does not match the header.")
    return sample


def _place(table: Table, name: str, option: str) -> int:
    if name in table.columns:
        return table.columns.index(name)
    if name.isdigit() and 1 <= int(name) <= len(table.columns):
        return int(name) - 1
    known = some([repr(column) for column in table.columns], 8)
    raise UserError(f"{table.path} has no column {name!r} ({option}); its columns are: {known}.")


def _named(columns: Sequence[str], names: Sequence[str], free: Sequence[int]) -> int | None:
    return next((columns.index(name) for name in names if name in columns and columns.index(name) in free), None)
