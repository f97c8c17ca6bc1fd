"""Ctrl-C that is not lost.

Python raises ``KeyboardInterrupt`` wherever it happens to be, and drops it inside callbacks, finalisers and some
imports. The command line therefore remembers that it was pressed, and long work asks at every step.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_pressed = threading.Event()


def _remember(number: int, frame: FrameType | None) -> None:
    _pressed.set()
    signal.default_int_handler(number, frame)


@contextmanager
def remembered() -> Iterator[None]:
    """While the block runs, an interrupt that Python drops is raised again by :func:`raise_if_pressed`."""
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield
        return
    before = signal.signal(signal.SIGINT, _remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        _pressed.clear()


def raise_if_pressed() -> None:
    """Raise ``KeyboardInterrupt`` if Ctrl-C was pressed since the block of :func:`remembered` began."""
    if _pressed.is_set():
        raise KeyboardInterrupt
