"""A worker without a bench, for the tests of the pipes: it answers, tells, fails and dies as it is asked to."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from typing import Any

from formwright.errors import NonFiniteLossError, UserError
from formwright.fitting.worker import Line, die_with_parent, outcome


def act(line: Line, work: str, arguments: dict[str, Any]) -> Any:
    if work == "echo":
        print("a library that prints")
        return arguments
    if work == "tell":
        for number in range(arguments["times"]):
            line.tell("note", {"number": number})
        return "told"
    if work == "progress":
        for number in range(arguments["times"]):
            line.tell("progress", {"done": number / arguments["times"], "text": ""})
        return None
    if work == "fail":
        raise {"user": UserError, "loss": NonFiniteLossError, "type": TypeError}[arguments["how"]]("It is so.")
    if work == "crash":
        ctypes.string_at(0)
    if work == "abort":
        print("terminate called after throwing an instance of 'std::bad_alloc'", file=sys.stderr, flush=True)
        os.abort()
    if work == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if work == "exit":
        print("something is missing", file=sys.stderr, flush=True)
        os._exit(3)
    if work == "half":
        line._sink.write('{"result": ')
        line._sink.flush()
        os._exit(4)
    if work == "sleep":
        line.tell("note", {"asleep": True})
        time.sleep(60)
    return None


def main() -> None:
    die_with_parent()
    if "refuse" in sys.argv:
        sys.exit("this machine will not have it")
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    line = Line(sys.stdin, answers)
    line.listen()
    setup = line.receive()
    line.send({"error": "UserError", "text": setup["error"]} if "error" in setup else {"result": None})
    while True:
        message = line.receive()
        line.send(outcome(lambda message=message: act(line, message["work"], message["arguments"])))


if __name__ == "__main__":
    main()
