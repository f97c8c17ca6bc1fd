"""Standard streams that take every character and may be closed, so that no output ends a command."""

from __future__ import annotations

import codecs
import io
import os
import sys
from contextlib import suppress
from typing import Any

from formwright.files import json_text

#: As Typer and Rich end a program whose reader has gone.
PIPE_CLOSED = 1
#: Characters of ours, as consoles without them can show them.
_PLAIN = {
    **{"…": "...", "–": "-", "—": "-", "−": "-", "━": "-", "─": "-", "×": "x", "·": "-", "•": "*", "±": "+-", "µ": "u"},
    **{"≤": "<=", "≥": ">=", "→": "->", "✓": "yes", "✗": "no", "\N{NO-BREAK SPACE}": " "},
    **{"“": '"', "”": '"', "‘": "'", "’": "'", "│": "|", "╭": "+", "╮": "+", "╰": "+", "╯": "+"},
}
_ERRORS = "formwright-console"


def _shown(error: UnicodeError) -> tuple[str, int]:
    """What stands for characters that a console lacks: the nearest that it has, else a question mark."""
    assert isinstance(error, UnicodeEncodeError)
    lost = error.object[error.start : error.end]
    return "".join(_PLAIN.get(letter, "?") for letter in lost), error.end


def prepare() -> None:
    """Open the standard streams that are closed, and let those of output replace what their encoding lacks."""
    with suppress(OSError):
        while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:  # the lowest that is free
            pass
        os.close(handle)
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115 - open until the end
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    codecs.register_error(_ERRORS, _shown)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ERRORS)


def flush() -> bool:
    """Write out what is still held, and say whether whoever reads it is still there."""
    there = True
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            there = False
            leave(stream)
    return there


def leave(stream: object) -> None:
    """Write to nowhere from now on, so that nothing is said of it when Python ends."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())  # type: ignore[attr-defined]
        os.close(nowhere)


def print_json(value: Any) -> None:
    """A value as JSON on standard output; characters that this lacks are escaped, so that nothing is lost."""
    text = json_text(value)
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        text = json_text(value, ascii=True)
    print(text)
