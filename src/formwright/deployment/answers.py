"""Answers as rows of a CSV file, new or with the same columns."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

from formwright.errors import UserError
from formwright.files import write_atomically


def append_answers(path: str | os.PathLike[str], columns: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Write rows to a CSV file, or add them to one, and return how many; it is replaced as a whole.

    Raises:
        UserError: the file is there and has other columns.
    """
    path = Path(path)
    there = path.read_text(encoding="utf-8-sig", errors="replace") if path.is_file() else ""
    if path.is_dir() or (there.strip() and next(csv.reader(there.splitlines()), []) != list(columns)):
        raise UserError(
            f"Answers are written to a CSV file with the columns {', '.join(columns)}, and {path} is something else; "
            "name a new file (--out)."
        )
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    if not there.strip():
        there = ""
        writer.writerow(columns)
    elif not there.endswith("\n"):
        there += "\n"
    writer.writerows(rows)
    write_atomically(path.resolve(), there + written.getvalue())
    return len(rows)
