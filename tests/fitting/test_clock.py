from __future__ import annotations

import time

import pytest

from formwright.fitting.clock import Clock


class Now:
    def __init__(self, monkeypatch) -> None:
        self.value = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.value)


@pytest.fixture
def now(monkeypatch):
    return Now(monkeypatch)


def test_time_is_counted_over_sessions(now):
    clock = Clock(100.0, spent=30.0, stages={"race": 12.0})
    now.value += 20
    assert (clock.spent, clock.left) == (50.0, 50.0)
    assert clock.deadline(80.0) == now.value + 30
    now.value += 500
    assert clock.left == 0.0


def test_stages_add_up_and_the_running_one_counts(now):
    clock = Clock(100.0, stages={"race": 12.0})
    with clock.stage("race"):
        now.value += 5
        assert clock.stages == {"race": 17.0}
        now.value += 5
    with clock.stage("train"):
        now.value += 1
    now.value += 50
    assert clock.stages == {"race": 22.0, "train": 1.0}


def test_a_stage_that_fails_is_counted_too(now):
    clock = Clock(100.0)

    def fails():
        with clock.stage("train"):
            now.value += 3
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert clock.stages == {"train": 3.0}
