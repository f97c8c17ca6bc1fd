"""The process that builds, measures and trains candidates for a run: ``python -m formwright.fitting.worker``.

Its standard input brings lines of JSON, first the setup and then pieces of work; its standard output takes what it
tells and what came of each piece. It reads the data again, through the description that the folder of the run keeps,
while whoever started it does the same. See :class:`formwright.search.executors.WorkerProcess` for the other end.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from typing import IO, Any

#: Seconds between two lines that say how far the work is.
PROGRESS_EVERY = 0.2
#: PR_SET_PDEATHSIG of Linux: the signal to get when the parent dies.
PARENT_DEATH_SIGNAL = 1


class Line:
    """The other end of the pipes."""

    def __init__(self, source: IO[str], sink: IO[str]) -> None:
        self._source, self._sink = source, sink
        self._received: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._told = -1.0

    def listen(self) -> None:
        """Receive in a thread, which ends this process when the pipe is closed, whatever else it is doing."""
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in self._source:
            self._received.put(json.loads(line))
        os._exit(0)

    def receive(self) -> dict[str, Any]:
        return self._received.get()

    def send(self, message: Mapping[str, Any]) -> None:
        self._sink.write(json.dumps(message) + "\n")
        self._sink.flush()

    def tell(self, kind: str, values: Mapping[str, Any]) -> None:
        """Say what happens; but for progress, return when it is written down."""
        from formwright.search.executors import PROGRESS

        if kind == PROGRESS:
            if time.monotonic() - self._told < PROGRESS_EVERY:
                return
            self._told = time.monotonic()
        self.send({"tell": kind, "values": values})
        if kind != PROGRESS:
            self.receive()


def outcome(do: Callable[[], Any]) -> dict[str, Any]:
    """What came of a piece of work, as the other end expects it: a result, or an error that both know by name."""
    from formwright.search.executors import KNOWN_ERRORS

    try:
        return {"result": do()}
    except Exception as error:
        name = next((kind.__name__ for kind in type(error).__mro__ if kind.__name__ in KNOWN_ERRORS), "")
        return {"error": name, "text": str(error) if name else traceback.format_exc()}


def serve(line: Line) -> None:
    """Read the data that the setup describes, say that all is ready, and work until standard input ends."""
    from formwright.fitting.bench import Bench
    from formwright.fitting.work import perform

    setup = line.receive()
    made: list[Bench] = []
    line.send(outcome(lambda: made.append(Bench.open(setup, line.tell))))
    checked = False

    def work(message: Mapping[str, Any]) -> Any:
        nonlocal checked
        if not checked:  # by now whoever started this has written down which sample is in which part
            made[0].check_splits()
            checked = True
        return perform(made[0], message["work"], message["arguments"], line.tell)

    while made:
        message = line.receive()
        line.send(outcome(partial(work, message)))


def main() -> None:
    die_with_parent()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no answer
    line = Line(sys.stdin, answers)
    line.listen()
    serve(line)


def die_with_parent() -> None:
    """Let the system end this process with its parent, where it can (Linux); a closed pipe does so everywhere."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)


if __name__ == "__main__":
    main()
