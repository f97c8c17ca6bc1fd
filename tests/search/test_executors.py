"""Work in a process of its own: what comes back, how it may die, and that it never outlives who started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from formwright.errors import LostError, NonFiniteLossError, UserError
from formwright.search.executors import InProcess, WorkerProcess, WorkError, describe_end

COMMAND = (sys.executable, "-m", "tests.search.echo_worker")
needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="processes end otherwise there")


def nobody(kind, values) -> None: ...


@pytest.fixture(scope="module")
def shared() -> Iterator[WorkerProcess]:
    made = WorkerProcess(COMMAND, {}, remedy="do without")
    yield made
    made.close()


def test_what_a_worker_is_sent_it_can_answer_and_printing_does_no_harm(shared):
    sent = {"text": "Übung\n", "list": [1, 2.5, None], "nested": {"yes": True}}
    assert shared.run("echo", sent, nobody) == sent


def test_it_is_one_process_for_all_work(shared):
    shared.start(nobody)
    pid = shared.pid
    shared.run("echo", {}, nobody)
    assert shared.pid == pid


def test_what_it_tells_is_heard_in_order_before_the_result(shared):
    heard = []
    assert shared.run("tell", {"times": 50}, lambda kind, values: heard.append(values["number"])) == "told"
    assert heard == list(range(50))


def test_progress_is_thinned_out(shared):
    heard = []
    shared.run("progress", {"times": 10_000}, lambda kind, values: heard.append(kind))
    assert 1 <= len(heard) < 100


@pytest.mark.parametrize(("how", "kind"), [("user", UserError), ("loss", NonFiniteLossError)])
def test_errors_keep_their_type_and_their_sentence(shared, how, kind):
    shared.start(nobody)
    pid = shared.pid
    with pytest.raises(kind, match=r"^It is so\.$") as caught:
        shared.run("fail", {"how": how}, nobody)
    assert type(caught.value) is kind
    assert shared.run("echo", {}, nobody) == {}
    assert shared.pid == pid


def test_an_error_that_nobody_expects_comes_with_its_traceback(shared):
    with pytest.raises(WorkError, match=r"(?s)Traceback.*in act.*TypeError: It is so\."):
        shared.run("fail", {"how": "type"}, nobody)
    assert shared.run("echo", {}, nobody) == {}


@needs_signals
@pytest.mark.parametrize(
    ("work", "sentence"),
    [
        ("crash", "was ended by signal 11 (segmentation fault)."),
        ("kill", "was ended by signal 9 (killed, as systems do when memory runs out)."),
        ("abort", "was ended by signal 6 (aborted: terminate called after throwing an instance of 'std::bad_alloc')."),
        ("exit", "ended with exit code 3 (something is missing)."),
        ("half", "ended with exit code 4."),
    ],
)
def test_a_worker_that_dies_is_told_of_in_a_sentence_and_another_goes_on(shared, work, sentence):
    shared.start(nobody)
    pid = shared.pid
    with pytest.raises(LostError) as caught:
        shared.run(work, {}, nobody)
    assert str(caught.value) == f"The process of this candidate {sentence}"
    assert shared.run("echo", {"again": 1}, nobody) == {"again": 1}
    assert shared.pid != pid


@needs_signals
def test_a_worker_that_is_killed_between_two_pieces_of_work_is_replaced(shared):
    shared.start(nobody)
    os.kill(shared.pid, signal.SIGKILL)
    time.sleep(0.2)
    assert shared.run("echo", {"again": 2}, nobody) == {"again": 2}


@needs_signals
def test_ctrl_c_does_not_reach_it(shared):
    shared.start(nobody)
    pid = shared.pid
    os.kill(pid, signal.SIGINT)
    time.sleep(0.2)
    assert shared.run("echo", {"still": 1}, nobody) == {"still": 1}
    assert shared.pid == pid


def test_whatever_interrupts_the_exchange_ends_the_worker_and_the_next_one_works(shared):
    def full(kind, values):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shared.run("sleep", {}, full)
    assert shared.pid is None
    assert shared.run("echo", {"on": 1}, nobody) == {"on": 1}


@pytest.mark.parametrize(
    ("command", "setup", "sentence"),
    [
        (["no-such-program"], {}, r"could not be started \(No such file or directory\): do without\.$"),
        ((*COMMAND, "refuse"), {}, r"started \(it ended with exit code 1 \(this machine will not have it\)\): do with"),
        (COMMAND, {"error": "The data has changed."}, r"^The data has changed\.$"),
    ],
)
def test_a_worker_that_cannot_start_says_why_and_what_to_do(command, setup, sentence):
    made = WorkerProcess(command, setup, remedy="do without")
    with pytest.raises(UserError, match=sentence) as caught:
        made.start(nobody)
    assert not isinstance(caught.value, LostError)
    assert made.pid is None


PARENT = """
import sys
from formwright.search.executors import WorkerProcess
made = WorkerProcess((sys.executable, "-m", "tests.search.echo_worker"), {}, remedy="")
made.run("sleep", {}, lambda kind, values: print(made.pid, flush=True))
"""


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_it_ends_with_the_process_that_started_it():
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    pid = int(parent.stdout.readline())
    assert alive(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    for _ in range(100):
        if not alive(pid):
            return
        time.sleep(0.1)
    raise AssertionError("it lives on")


def test_work_in_this_process_is_just_done():
    heard = []

    def perform(work, arguments, listener):
        listener("note", {"of": work})
        return arguments["number"] + 1

    made = InProcess(perform)
    made.start(nobody)
    assert made.run("count", {"number": 1}, lambda kind, values: heard.append(values)) == 2
    assert heard == [{"of": "count"}]
    made.close()


def test_an_end_without_words():
    assert describe_end(0) == "ended with exit code 0"
