"""How long-running work tells what it is doing, whoever listens."""

from __future__ import annotations

from typing import Any


class Reporter:
    """Hears of stages and of how far they are; this one keeps silent.

    The command line draws bars, and Python callers may pass their own.
    """

    def stage(self, name: str, seconds: float | None = None) -> None:
        """A stage begins; ``seconds`` is how long it may take, where that is known."""

    def progress(self, done: float, text: str = "") -> None:
        """The stage is done to the share ``done`` (0 to 1)."""

    def note(self, text: str) -> None:
        """Something that the user will want to know."""

    def event(self, name: str, text: str = "", /, **values: Any) -> None:
        """Something happened that a log keeps, such as a ``score``: its values, and the same in words."""

    def close(self) -> None:
        """Nothing more comes."""


class Share(Reporter):
    """Turns the progress of one piece of work among several into that of all of them."""

    def __init__(self, reporter: Reporter, index: int, count: int) -> None:
        self._reporter, self._index, self._count = reporter, index, count

    def progress(self, done: float, text: str = "") -> None:
        self._reporter.progress((self._index + done) / self._count, text)

    def note(self, text: str) -> None:
        self._reporter.note(text)


SILENT = Reporter()
