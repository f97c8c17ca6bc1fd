"""The log of a run: a file of JSON lines, Python's logging, and what is told where nobody listens."""

from __future__ import annotations

import json
import logging
import math

import pytest

import formwright
from formwright.errors import UserError
from formwright.fitting.curves import Curves
from formwright.fitting.journal import LOGGER, Journal, told_on_standard_error
from formwright.fitting.metric import Metric
from formwright.reporting import SILENT, Reporter
from tests.fitting.test_race import with_trials


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines() if line]


def test_events_are_lines_from_the_start_of_the_run_on(tmp_path):
    journal = Journal(SILENT)
    journal.stage("Reading the data")
    journal.open(tmp_path / "log.jsonl", 5.0)
    journal.note("A café.")
    journal.event("score", "text", loss=math.nan, best=-math.inf, number=3, curve=[1.0, math.inf])
    found = lines(tmp_path / "log.jsonl")
    assert [line["event"] for line in found] == ["stage", "note", "score"]
    assert found[1]["text"] == "A café."
    assert found[1]["elapsed"] >= 5.0 > found[0]["elapsed"]
    assert (found[2]["loss"], found[2]["best"], found[2]["number"], found[2]["curve"]) == (None, None, 3, [1.0, None])


def test_a_line_that_a_kill_cut_off_costs_itself(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"event": "note"}\n{"event": "sc')
    journal = Journal(SILENT)
    journal.open(path, 0.0)
    journal.note("on")
    written = path.read_text().splitlines()
    assert written[1] == '{"event": "sc'
    assert json.loads(written[2])["text"] == "on"


def test_a_log_that_cannot_be_written_costs_nothing(tmp_path):
    journal = Journal(SILENT)
    journal.open(tmp_path / "none" / "log.jsonl", 0.0)
    journal.note("on")
    assert not list(tmp_path.iterdir())


def test_what_is_told_goes_to_the_logger_of_the_package(caplog):
    with caplog.at_level(logging.INFO, "formwright"):
        journal = Journal(SILENT)
        journal.stage("Racing", 10.0)
        journal.note("50 % done")
        journal.event("score", "cct: accuracy 80 %", score=0.8)
        journal.event("candidate", status="racing")
    assert [record.getMessage() for record in caplog.records] == ["Racing", "50 % done", "cct: accuracy 80 %"]
    assert {record.name for record in caplog.records} == {"formwright"}


@pytest.mark.parametrize("level", [logging.NOTSET, logging.WARNING, logging.INFO])
def test_standard_error_is_for_those_without_a_logger_of_their_own(capsys, level):
    LOGGER.setLevel(level)
    try:
        with told_on_standard_error():
            LOGGER.info("Racing")
        assert (capsys.readouterr().err == "Racing\n") == (level == logging.NOTSET)
        LOGGER.info("Later")
        assert "Later" not in capsys.readouterr().err
        assert (LOGGER.level, LOGGER.propagate) == (level, True)
    finally:
        LOGGER.setLevel(logging.NOTSET)


def test_curves_are_for_tensorboard_a_folder_per_candidate(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    curves = Curves(tmp_path, Metric("mean squared error", "mse", lower_is_better=True))
    for step, score in ((8, -0.5), (16, -0.25)):
        curves.event("score", number=3, name="a/b", step=step, score=score, loss=None, learning_rate=0.1, best=None)
    curves.event("note", text="nothing to draw")
    curves.close()
    (folder,) = tmp_path.iterdir()
    drawn = EventAccumulator(str(folder)).Reload()
    assert folder.name == "03 a-b"
    assert sorted(drawn.Tags()["scalars"]) == ["learning rate", "validation mse"]
    assert [(one.step, one.value) for one in drawn.Scalars("validation mse")] == [(8, 0.5), (16, 0.25)]


def test_curves_without_the_package_are_refused_before_anything_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install"):
        formwright.fit(tmp_path / "missing", out=tmp_path / "run", tensorboard=True)
    assert not (tmp_path / "run").exists()


def test_scores_and_who_leads_are_told_while_candidates_learn(tmp_path):
    heard = []

    class Listener(Reporter):
        def progress(self, done, text=""):
            heard.append(text)

    made = with_trials(tmp_path / "run")
    made.reporter = Journal(Listener())
    made.reporter.open(made.folder.root / "log.jsonl", 0.0)
    for number, score in ((0, 0.5), (1, 0.75), (2, 0.25)):
        point = {"step": 8, "seconds": 2.0, "loss": 0.7, "score": score, "learning_rate": 0.1}
        made.hear("curve", {"trial": number, "curve": [point], "kept": None})
    made.trial(1).status = "racing"
    made.save()
    made.hear("progress", {"done": 0.5, "text": "loss 0.3"})
    assert heard == ["loss 0.3; best: 75.0\N{NO-BREAK SPACE}%, toy 1"]
    found = lines(made.folder.root / "log.jsonl")
    scores = [line for line in found if line["event"] == "score"]
    assert [(line["name"], line["score"], line["best"]) for line in scores] == [
        ("toy 0", 0.5, 0.5),
        ("toy 1", 0.75, 0.75),
        ("toy 2", 0.25, 0.75),
    ]
    assert [line["status"] for line in found if line["event"] == "candidate"] == ["racing"]
