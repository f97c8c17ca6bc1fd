"""Who does the work of a search: this process, or a worker process whose death costs one candidate and not the search.

The one who searches decides and keeps the journal. A piece of work is a name and arguments in JSON, and what comes of
it is JSON; whatever is large (weights, optimisers, exported files) lies in the folder of the run, where the next one
who does the work finds it. Seed and folder come once, with the setup of an executor. An executor on other machines
needs the three methods of :class:`Executor` and a folder that both sides see.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any, Protocol

from formwright import errors
from formwright.errors import LostError, UserError
from formwright.interrupts import raise_if_pressed

#: Told what happens while work is done: a kind and its values. When it returns, what it was told is written down.
Listener = Callable[[str, Mapping[str, Any]], None]
#: Does a piece of work in this process: its name, its arguments, and who is told.
Performer = Callable[[str, Mapping[str, Any], Listener], Any]

#: Of this kind is what may be lost and need not be waited for: how far the work is.
PROGRESS = "progress"
#: Errors that keep their type on the way from a worker; any other is a :class:`WorkError` here.
KNOWN_ERRORS: dict[str, type[Exception]] = {
    kind.__name__: kind
    for kind in (UserError, errors.StorageError, errors.NonFiniteLossError, LostError, RuntimeError, ValueError)
}
SUBJECT = "The process of this candidate"
#: Seconds between two looks at whether Ctrl-C was pressed, and for a worker to end by itself when it is told to.
PATIENCE, FAREWELL = 0.5, 2.0


class WorkError(Exception):
    """An exception of a worker that nobody expected; its text is the worker's traceback."""


class Executor(Protocol):
    """Does pieces of work, one at a time."""

    def start(self, listener: Listener) -> None:
        """Be ready for work, now or again: what :meth:`run` then takes is the time of the work alone.

        Raises:
            UserError: it cannot be; the sentence says why and what to do.
        """

    def run(self, work: str, arguments: Mapping[str, Any], listener: Listener) -> Any:
        """Do a piece of work and return what came of it.

        Raises:
            CandidateError: the candidate cannot go on; the next piece of work can be run all the same.
        """

    def close(self) -> None:
        """End, in the midst of work if need be."""


class InProcess:
    """Does the work here and now: nothing has to be started, and a crash is everybody's."""

    def __init__(self, perform: Performer) -> None:
        self._perform = perform

    def start(self, listener: Listener) -> None: ...

    def run(self, work: str, arguments: Mapping[str, Any], listener: Listener) -> Any:
        return self._perform(work, arguments, listener)

    def close(self) -> None: ...


class WorkerProcess:
    """A process that does one piece of work after the other, and is started again after it died.

    It is a new program, never a fork, and speaks in lines of JSON: it is sent the setup and then the work, and answers
    what happens meanwhile and what came of it. It ends when this process ends, however that ends. Ctrl-C in the
    terminal reaches this process alone.

    Args:
        command: of the worker (:func:`formwright.fitting.worker.main` is one).
        setup: JSON, the first line that each worker is sent.
        remedy: what to do if it cannot be started, the end of a sentence.
    """

    def __init__(self, command: Sequence[str], setup: Mapping[str, Any], *, remedy: str) -> None:
        self._command, self._setup, self._remedy = command, setup, remedy
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._words: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (its standard error; gone with this object)
        self._said = 0
        self._ready = False

    @property
    def pid(self) -> int | None:
        """Of the worker, while there is one."""
        return None if self._process is None else self._process.pid

    def launch(self) -> None:
        """Start a worker and do not wait: what it prepares and what happens here take place at the same time.

        Raises:
            UserError: the system does not let it start.
        """
        self.close()
        self._said = self._words.seek(0, os.SEEK_END)
        paths = [path or os.getcwd() for path in sys.path if isinstance(path, str)]
        try:
            with _interrupts_held():
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._words,
                    text=True,
                    encoding="utf-8",
                    bufsize=1,
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
                )
        except OSError as error:
            raise self._no_start(f"{error.strerror or error}") from error
        self._lines = queue.SimpleQueue()
        threading.Thread(target=_pump, args=(self._process, self._lines), daemon=True).start()
        with contextlib.suppress(OSError):  # it ended already, which is noticed when it is asked
            self._send(self._setup)

    def start(self, listener: Listener) -> None:
        if self._process is not None and self._ready and self._process.poll() is None:
            return
        if self._process is None or self._ready:
            self.launch()
        try:
            message = self._answer(listener)
        except LostError as error:
            raise self._no_start(str(error).removesuffix(".").replace(SUBJECT, "it")) from None
        try:
            self._result(message)
        except Exception:
            self.close()
            raise
        self._ready = True

    def run(self, work: str, arguments: Mapping[str, Any], listener: Listener) -> Any:
        self.start(listener)
        self._said = self._words.seek(0, os.SEEK_END)
        with contextlib.suppress(OSError):  # it died just now, which the answer will say
            self._send({"work": work, "arguments": dict(arguments)})
        return self._result(self._answer(listener))

    def close(self) -> None:
        self._ready = False
        if self._process is None:
            return
        process, self._process = self._process, None
        with contextlib.suppress(OSError):
            assert process.stdin is not None
            process.stdin.close()  # whereupon it ends
        try:
            process.wait(FAREWELL)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _send(self, value: Mapping[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(value) + "\n")

    def _answer(self, listener: Listener) -> Mapping[str, Any]:
        """Tell the listener what happens, until the worker says what came of its work.

        Whatever interrupts this leaves no worker behind that is in the midst of something.
        """
        try:
            while True:
                raise_if_pressed()
                try:
                    line = self._lines.get(timeout=PATIENCE)
                except queue.Empty:
                    continue
                if line is None:
                    raise self._lost()
                message: Mapping[str, Any] = json.loads(line)
                if "tell" not in message:
                    return message
                listener(message["tell"], message["values"])
                if message["tell"] != PROGRESS:  # it waits until this is written down
                    with contextlib.suppress(OSError):
                        self._send({"heard": True})
        except BaseException:
            self.close()
            raise

    def _result(self, message: Mapping[str, Any]) -> Any:
        if "error" not in message:
            return message["result"]
        error = KNOWN_ERRORS.get(message["error"], WorkError)(message["text"])
        if isinstance(error, LostError | WorkError):  # nobody knows what is left of its memory
            self.close()
        raise error

    def _lost(self) -> LostError:
        """What is told of a worker that has ended."""
        assert self._process is not None
        try:
            code = self._process.wait(FAREWELL)
        except subprocess.TimeoutExpired:  # it closed its output and lives on
            self._process.kill()
            code = self._process.wait()
        return LostError(f"{SUBJECT} {describe_end(code, self._last_words())}.")

    def _last_words(self) -> str:
        self._words.seek(self._said)
        lines = self._words.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip()[:200] if lines else ""

    def _no_start(self, reason: str) -> UserError:
        return UserError(f"The process that trains the candidates could not be started ({reason}): {self._remedy}.")


def describe_end(code: int, last_words: str = "") -> str:
    """How a process ended, from its exit code and its last line on standard error: the rest of a sentence.

    >>> describe_end(-11)
    'was ended by signal 11 (segmentation fault)'
    """
    if code >= 0:
        return f"ended with exit code {code}" + (f" ({last_words})" if last_words else "")
    name = (signal.strsignal(-code) or "unknown").lower()
    if -code == getattr(signal, "SIGKILL", None):
        name += ", as systems do when memory runs out"
    elif -code == signal.SIGABRT and last_words:
        name += f": {last_words}"
    return f"was ended by signal {-code} ({name})"


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """A process that is started in the block never sees Ctrl-C; this one sees it afterwards, if it came meanwhile."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _pump(process: subprocess.Popen[str], lines: queue.SimpleQueue[str | None]) -> None:
    """Take what a worker says out of the pipe, which holds little; none when it says no more."""
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            if line.endswith("\n"):  # or it died in the midst of it
                lines.put(line)
    lines.put(None)
