"""Candidates that crash, are killed or take too much memory cost the run themselves; killed runs end the same."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from formwright.errors import LostError, UserError
from formwright.fitting import fit, race, run, shortlist, work
from formwright.fitting.bench import COOLED_SHARE
from formwright.fitting.state import STATE_FILE, RunFolder
from formwright.training.loop import Trainer
from tests.fitting import steady
from tests.fitting.test_race import bench_of, with_trials

needs_signals = pytest.mark.skipif(sys.platform != "linux", reason="ends workers by signals and limits their memory")
FAMILIES = ("poolformer", "cct", "convnext", "resnet")
RULES = {"poolformer": "crash", "cct": "kill", "convnext": "memory"}
KILLED = "The process of this candidate was ended by signal 9 (killed, as systems do when memory runs out)."
CRASHED = "The process of this candidate was ended by signal 11 (segmentation fault)."
NO_MEMORY = "There was not enough memory for this candidate."


@needs_signals
def test_a_run_survives_what_its_candidates_do_not(tmp_path):
    command = (sys.executable, "-m", "tests.fitting.saboteur", json.dumps(RULES))
    made = steady.session(tmp_path / "run", command=command, families=FAMILIES)
    steady.run(made)
    trials = RunFolder.open(tmp_path / "run", steady.OPTIONS).state.trials
    assert [(trial.status, trial.reason) for trial in trials] == [
        ("failed", CRASHED),
        ("failed", KILLED),
        ("failed", NO_MEMORY),
        ("finished", ""),
    ]
    #: The last rung is 32 steps long, of which the last fifth is taken by a copy that is scored.
    assert trials[3].curve[-1].step == math.ceil((1 - COOLED_SHARE) * 32) + steady.LAST_STEPS
    assert not list(tmp_path.rglob(".*"))


def lose(monkeypatch, name: str, error: Exception, times: int = 1) -> list[int]:
    """Lets a piece of work fail for the first trials that it is for; their numbers."""
    real, lost = work.WORK[name], []

    def loses(bench, *, trial, **arguments):
        if len(lost) < times:
            lost.append(trial["number"])
            raise error
        return real(bench, trial=trial, **arguments)

    monkeypatch.setitem(work.WORK, name, loses)
    return lost


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes.")]
)
def test_want_of_memory_costs_one_candidate_in_the_same_process_too(tmp_path, monkeypatch, error):
    lose(monkeypatch, "train", error)
    made = with_trials(tmp_path / "run")
    race.race(made, 30.0)
    trial = made.trial(0)
    assert (trial.status, trial.reason) == ("failed", NO_MEMORY)
    assert made.folder.state.winner in (1, 2)
    assert 0 not in bench_of(made).trainers


def test_other_errors_are_not_taken_for_want_of_memory(tmp_path, monkeypatch):
    lose(monkeypatch, "train", RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        race.race(with_trials(tmp_path / "run"), 30.0)


@pytest.mark.parametrize("name", ["finish", "export"])
def test_a_winner_that_is_lost_is_replaced_by_the_next_best(tmp_path, short_runs, monkeypatch, name):
    monkeypatch.setattr(shortlist, "SHORTLIST_SHARE", 100.0)  # or there may be one candidate only
    lost = lose(monkeypatch, name, LostError(CRASHED))
    result = fit(out=tmp_path / "run", max_time=6, threads=1)
    failed = [trial for trial in result.trials if trial.status == "failed"]
    assert [trial.number for trial in failed] == lost
    assert failed[0].reason == CRASHED
    assert CRASHED in (tmp_path / "run" / "report.html").read_text()
    assert result.shipped.trial not in lost
    assert any("won the race and then failed" in note for note in result.notes)


def test_what_is_lost_while_shrinking_costs_one_form(tmp_path, short_runs, monkeypatch):
    def lost(bench, **arguments):
        raise LostError(CRASHED)

    monkeypatch.setitem(work.WORK, "quantize", lost)
    monkeypatch.setitem(work.WORK, "compress", lost)
    monkeypatch.setitem(work.WORK, "setting", lost)
    result = fit(out=tmp_path / "run", max_time=6, threads=1)
    assert [variant.name for variant in result.variants] == ["trained, float32"]
    assert all(CRASHED in step.reason for step in result.shrink if step.tried)
    assert any(note.startswith("Whether bfloat16 is faster here is not known") for note in result.notes)


def test_when_all_are_lost_in_measuring_the_run_ends_with_the_reason_and_leaves_nothing(
    tmp_path, short_runs, monkeypatch
):
    def lost(bench, **arguments):
        raise LostError(CRASHED)

    monkeypatch.setitem(work.WORK, "measure", lost)
    with pytest.raises(UserError, match="is left out: The process of this candidate was ended by signal 11"):
        fit(out=tmp_path / "run", max_time=6, threads=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("no-such-program",), "No such file or directory"),
        ((sys.executable, "-c", "raise SystemExit(7)"), "exit code 7"),
    ],
)
def test_a_worker_that_cannot_start_is_a_sentence_and_leaves_nothing(
    tmp_path, short_runs, monkeypatch, command, reason
):
    monkeypatch.setattr(run, "WORKER", command)
    with pytest.raises(UserError, match=rf"could not be started .*{reason}.*: train them in .*--no-worker\)\.$"):
        fit(out=tmp_path / "run", max_time=6, threads=1, worker=True)
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_cannot_start_again_loses_nothing(tmp_path, short_runs, monkeypatch):
    root = tmp_path / "run"

    def interrupted(bench, **arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setitem(work.WORK, "finish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(out=root, max_time=6, threads=1)
    before = (root / STATE_FILE).read_bytes()
    monkeypatch.setattr(run, "WORKER", ("no-such-program",))
    with pytest.raises(UserError, match="could not be started"):
        fit(out=root, max_time=6, threads=1, worker=True, resume=True)
    assert (root / STATE_FILE).read_bytes() == before
    assert fit(out=root, max_time=6, threads=1, resume=True).shipped


@pytest.fixture
def reference(tmp_path, monkeypatch):
    """A race that nobody disturbs, in this process: its numbers and weights."""
    steady.keep_time(monkeypatch.setattr)
    root = tmp_path / "reference"
    steady.run(steady.session(root))
    return root


def weights(root) -> dict[str, torch.Tensor]:
    return {
        f"{path.name}: {name}": tensor
        for path in sorted((root / "checkpoints").glob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }


def assert_same(root, reference) -> None:
    assert steady.outcome(root) == steady.outcome(reference)
    found, expected = weights(root), weights(reference)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


class Killed(BaseException):
    """What no handler may catch, as a process that is killed runs none."""


def test_killed_at_ten_random_moments_a_race_ends_with_the_same_numbers(tmp_path, reference, monkeypatch):
    step = Trainer._step
    draw = random.Random(0)
    left = 0

    def mortal(self, *args):
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed
        return step(self, *args)

    monkeypatch.setattr(Trainer, "_step", mortal)
    root = tmp_path / "killed"
    for moment in (draw.randrange(1, steady.ALL_STEPS // 6) for _ in range(10)):
        left = moment
        made = steady.session(root)
        with pytest.raises(Killed):
            steady.run(made)
        made.folder.release()
    left = 0
    steady.run(steady.session(root))
    assert_same(root, reference)


@needs_signals
def test_killed_with_its_worker_a_race_ends_with_the_same_numbers(tmp_path, reference):
    root = tmp_path / "apart"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "tests.fitting.steady", str(root)]
    process = subprocess.Popen(command, env=environment)
    while not list(root.glob("checkpoints/*")) and process.poll() is None:
        time.sleep(0.02)
    time.sleep(random.Random(1).uniform(0.0, 2.0))
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended by itself"
    assert subprocess.run(command, env=environment, check=False).returncode == 0
    assert_same(root, reference)
