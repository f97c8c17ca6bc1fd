"""The log of a run: ``log.jsonl`` in its folder, and Python's ``logging`` under the name ``formwright``."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from formwright.reporting import Reporter

LOGGER = logging.getLogger("formwright")


class Journal(Reporter):
    """Passes everything on to listeners, and writes down what happened.

    Each line of the file is a JSON object: ``time`` (seconds since 1970), ``elapsed`` (seconds of the run), ``event``
    and what belongs to it. Events are ``start`` (options), ``stage`` (name, seconds that it may take), ``note`` (text),
    ``candidate`` (number, name, status, reason), ``score`` (number, name, step, seconds, loss, score, best), ``form``
    (an exported file: name, score, latency, size, violations), ``step`` (of shrinking: name, kept, reason) and ``end``
    (model, score). Scores are those of ``metrics.json``: more is better.
    """

    def __init__(self, *listeners: Reporter) -> None:
        self._listeners = list(listeners)
        self._started, self._spent = time.monotonic(), 0.0
        self._path: Path | None = None
        self._waiting: list[str] = []

    def add(self, listener: Reporter) -> None:
        """Let another one hear what comes from now on."""
        self._listeners.append(listener)

    def open(self, path: Path, spent: float) -> None:
        """Write to a file from now on, what was heard before first; ``spent`` are the seconds of the run so far."""
        self._path, self._spent, self._started = path, spent, time.monotonic()
        lines, self._waiting = self._waiting, []
        with contextlib.suppress(OSError):
            if path.is_file() and not path.read_bytes().endswith(b"\n"):  # killed within a line
                lines.insert(0, "")
        self._append(lines)

    def stage(self, name: str, seconds: float | None = None) -> None:
        LOGGER.info("%s", name)
        self.event("stage", name=name, seconds=seconds)
        for listener in self._listeners:
            listener.stage(name, seconds)

    def progress(self, done: float, text: str = "") -> None:
        for listener in self._listeners:
            listener.progress(done, text)

    def note(self, text: str) -> None:
        LOGGER.info("%s", text)
        self.event("note", text=text)
        for listener in self._listeners:
            listener.note(text)

    def event(self, name: str, text: str = "", /, **values: Any) -> None:
        if text:
            LOGGER.info("%s", text)
        elapsed = self._spent + time.monotonic() - self._started
        record = {"time": round(time.time(), 3), "elapsed": round(elapsed, 3), "event": name, **values}
        line = json.dumps(_plain(record), ensure_ascii=False)
        if self._path is None:
            self._waiting.append(line)
        else:
            self._append([line])
        for listener in self._listeners:
            listener.event(name, text, **values)

    def close(self) -> None:
        for listener in self._listeners:
            listener.close()

    def _append(self, lines: list[str]) -> None:
        assert self._path is not None
        with contextlib.suppress(OSError), self._path.open("a", encoding="utf-8") as file:  # a run needs no log
            file.writelines(f"{line}\n" for line in lines)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextlib.contextmanager
def told_on_standard_error() -> Iterator[None]:
    """Let those who have not set up logging read along on standard error."""
    if LOGGER.level != logging.NOTSET or LOGGER.isEnabledFor(logging.INFO):
        yield
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    propagated = LOGGER.propagate
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(logging.NOTSET)
        LOGGER.propagate = propagated
