"""The arena trains all mixers alike, keeps to its time, and says what it found as table, JSON and picture."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from formwright.data.synthetic.sequences import LabelledSequences
from formwright.errors import UserError
from formwright.models.language.long_range_arena import long_range_arena
from formwright.studies.arena import ArenaResult, Score, Speed, run_arena, train_and_score, write_report
from formwright.studies.arena import contest as contests
from formwright.studies.arena import run as runs
from formwright.studies.arena.contest import train_together
from formwright.studies.arena.tasks import Parts

SIZES = {"dim": 16, "depth": 1, "heads": 2, "hidden": 16, "padding": None}


def recall(count: int, seed: int) -> LabelledSequences:
    """Rows of noise (ids 2 and 3) with one of two values (0 and 1) somewhere: the class."""
    random = np.random.default_rng(seed)
    ids = random.integers(2, 4, size=(count, 12), dtype=np.int16)
    labels = random.integers(2, size=count)
    ids[np.arange(count), random.integers(12, size=count)] = labels
    return LabelledSequences(ids, labels, vocabulary=6, classes=2, padding=None, source="one value among noise")


def frame(mixer: str):  # type: ignore[no-untyped-def]
    return long_range_arena(name=mixer, mixer=mixer, vocabulary=6, length=12, classes=2, **SIZES)


def test_a_small_model_learns_to_look_a_value_up() -> None:
    data = Parts(recall(1000, 0), recall(200, 1))
    found = train_and_score(frame("full"), data, steps=200, learning_rate=1e-2)
    assert found.accuracy > 0.9
    assert (found.steps, found.tested) == (200, 200)
    again = train_and_score(frame("full"), data, steps=5, seed=1)
    assert again.accuracy == train_and_score(frame("full"), data, steps=5, seed=1).accuracy


class Ticks:
    """A clock by which every look at it takes a hundredth of a second, however busy the machine is."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 0.01
        return self.now

    perf_counter = monotonic


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Ticks()
    monkeypatch.setattr(runs, "time", clock)
    monkeypatch.setattr(contests, "time", clock)


@pytest.mark.usefixtures("ticks")
def test_all_have_the_same_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contests, "_LEAST_TESTED", 10)
    data = Parts(recall(100, 0), recall(50, 1))
    contestants = {(mixer, seed): (frame(mixer), data, seed) for mixer in ("full", "local") for seed in (0, 1)}
    found = train_together(contestants, seconds=1.0)
    assert set(found) == set(contestants)
    assert len({(one.steps, one.tested) for one in found.values()}) == 1
    assert found["full", 0].steps > 6
    with pytest.raises(UserError, match="are too little for a few steps of 4 models and 10 test rows"):
        train_together(contestants, seconds=1e-3)


@pytest.mark.usefixtures("ticks")
def test_a_whole_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "TRAIN_ROWS", 40)
    monkeypatch.setattr(runs, "TEST_ROWS", 20)
    monkeypatch.setattr(contests, "_LEAST_TESTED", 10)
    result = run_arena(["listops"], ["full", "local"], budget=0.6, lengths=[64, 128])
    assert {(score.task, score.mixer) for score in result.scores} == {("listops", "full"), ("listops", "local")}
    assert len({score.steps for score in result.scores}) == 1
    assert result.lengths == [64, 128]
    assert all(speed.steps_per_second for speed in result.speeds)
    assert json.loads(json.dumps(result.to_json()))["tasks"] == ["listops"]
    write_report(result, tmp_path / "arena.html")
    html = (tmp_path / "arena.html").read_text()
    assert "<script" not in html
    assert 'src="http' not in html
    assert "local" in html
    assert html.count("<svg") > 3


RESULT = ArenaResult(
    tasks=("listops",),
    mixers=("full", "linear"),
    frame="64 channels",
    scores=(
        Score("listops", "full", (0.2, 0.3), 100, 0.1, 50, 1.0, 1000, 256, "ListOps"),
        Score("listops", "linear", (0.4, 0.4), 100, 0.1, 50, 1.0, 1000, 256, "ListOps"),
    ),
    speeds=(
        Speed("full", 1024, 10.0, 10**7),
        Speed("full", 2048, skipped="a step would take about 9 s"),
        Speed("linear", 1024, 20.0, None),
        Speed("linear", 2048, 12.0, None),
    ),
    budget=60.0,
    seconds=50.0,
    machine="1 core",
    seeds=(0, 1),
)


def test_what_was_left_out_is_said(tmp_path: Path) -> None:
    assert list(RESULT.ranked()) == ["linear", "full"]
    assert RESULT.average("full") == pytest.approx(0.25)
    write_report(RESULT, tmp_path / "arena.html")
    html = (tmp_path / "arena.html").read_text()
    assert "a step would take about 9 s" in html
    assert "at 1,024 tokens" in html, "the longest rows that all were timed on"
    write_report(dataclasses.replace(RESULT, scores=(), tasks=()), tmp_path / "speed.html")
    write_report(dataclasses.replace(RESULT, speeds=()), tmp_path / "scores.html")


def test_a_length_that_would_take_too_long_or_too_much_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Speed("full", 1024, 10.0, 10**6)
    assert runs._too_much(before, 2048, seconds=60.0) == ""
    assert runs._too_much(before, 16_384, seconds=60.0) == "a step would take about 25.6 s"
    monkeypatch.setattr(runs, "_free_memory", lambda: 10**6)
    assert runs._too_much(before, 2048, seconds=60.0).startswith("a step would need up to 4")
    assert runs._too_much(None, 2048, seconds=0.0) == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tasks": ["listop"]}, "did you mean listops"),
        ({"mixers": ["performr"]}, "did you mean performer"),
        ({"mixers": []}, "No mixer was named"),
        ({"lengths": [0]}, "Lengths are at least 1, and 0 came"),
        ({"seeds": []}, "No seed was given"),
    ],
)
def test_what_there_is_not_is_refused_before_anything_runs(arguments: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        run_arena(**{"tasks": ["listops"], "mixers": ["full"], **arguments})
