"""Where runs go, and what becomes of one that is replaced or given more time."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from formwright.errors import UserError
from formwright.fitting import fit, state
from formwright.fitting.state import RunFolder, results_folder
from tests.fitting.sample import sample_result
from tests.fitting.test_race import bench_of, with_trials


@pytest.fixture
def photos(tmp_path):
    random = np.random.default_rng(0)
    for index in range(60):
        path = tmp_path / "photos" / ("cat" if index % 2 else "dog") / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        slope = np.linspace(0, 160, 16)[:: 1 if index % 2 else -1]
        Image.fromarray((random.random((16, 16)) * 90 + slope).astype(np.uint8)).save(path)
    return tmp_path / "photos"


def run_in(folder):
    RunFolder.create(folder, {}).release()
    return folder


def test_runs_without_a_folder_go_to_the_next_free_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = state.DEFAULT_FOLDER
    assert results_folder(None) == results_folder(None, again=True) == root
    run_in(root)
    assert results_folder(None) == root.with_name("fit-2")
    assert results_folder(None, again=True) == root
    root.with_name("fit-2").mkdir()
    assert results_folder(None) == root.with_name("fit-2")
    (root.with_name("fit-2") / "letter.txt").write_text("dear")
    assert results_folder(None) == root.with_name("fit-3")
    assert results_folder(None, again=True) == root
    run_in(root.with_name("fit-3"))
    assert results_folder(None, again=True) == root.with_name("fit-3")
    assert results_folder("mine") == results_folder("mine", again=True) == tmp_path.__class__("mine")


def test_overwriting_replaces_a_run_and_nothing_else(tmp_path):
    root = run_in(tmp_path / "run")
    for name in (*state.FILES, "letter.txt"):
        (root / name).write_text("{}")
    for name in state.FOLDERS:
        (root / name).mkdir()
        (root / name / "a").write_text("a")
    with pytest.raises(UserError, match="holds a run already; continue it with --resume, replace it with --overwrite"):
        RunFolder.create(root, {})
    held = RunFolder(root, state.RunState({}))
    held.lock()
    with pytest.raises(UserError, match="Another process works"):
        RunFolder.create(root, {}, overwrite=True)
    assert (root / "model.onnx").is_file()
    held.release()
    RunFolder.create(root, {"seed": 1}, overwrite=True).release()
    assert sorted(path.name for path in root.iterdir()) == ["letter.txt", "run.json"]
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="is not empty"):
        RunFolder.create(tmp_path / "letters", {}, overwrite=True)


def test_bad_data_leaves_the_run_that_was_to_be_replaced(tmp_path):
    root = run_in(tmp_path / "run")
    before = (root / "run.json").read_text()
    with pytest.raises(UserError, match=r"There is no"):
        fit(tmp_path / "nothing", out=root, task="image-classification", overwrite=True)
    assert (root / "run.json").read_text() == before
    with pytest.raises(UserError, match="not both"):
        fit(tmp_path / "nothing", out=root, resume=True, overwrite=True)


def test_a_finished_run_goes_on_with_more_time(photos, tmp_path, short_runs, monkeypatch):
    monkeypatch.setattr(state, "LEAST_MORE", 1.0)
    root = tmp_path / "run"
    first = fit(photos, out=root, max_time=8, threads=1)
    assert first.folder == str(root)
    number = json.loads((root / "run.json").read_text())["winner"]
    winner = next(trial for trial in first.trials if trial.number == number)
    again = fit(photos, out=root, threads=1, resume=True)  # no time named: that of the run
    assert (again.time, again.test, again.folder) == (first.time, first.test, first.folder)
    with pytest.raises(UserError, match="or more time"):
        fit(photos, out=root, max_time=7, threads=1, resume=True)
    spent = json.loads((root / "run.json").read_text())["spent"]
    with pytest.raises(UserError, match="give it"):
        fit(photos, out=root, max_time=max(spent + 0.5, 8.1), threads=1, resume=True)
    longer = fit(photos, out=root, max_time=spent + 8, threads=1, resume=True)
    assert longer.time["total"] > first.time["total"] + 1
    after = next(trial for trial in longer.trials if trial.number == winner.number)
    assert after.curve[: len(winner.curve)] == winner.curve
    assert sum(len(trial.curve) for trial in longer.trials) > sum(len(trial.curve) for trial in first.trials)
    assert json.loads((root / "run.json").read_text())["options"]["max_time"] == pytest.approx(spent + 8)
    assert (root / "metrics.json").is_file()
    replaced = fit(photos, out=root, max_time=6, threads=1, overwrite=True)
    assert replaced.time["total"] < longer.time["total"]


def test_more_time_leaves_what_is_learned_and_undoes_what_was_decided(tmp_path):
    folder = RunFolder.create(tmp_path / "run", {"max_time": 100.0})
    made = folder.state
    point = {"step": 9, "seconds": 1.0, "loss": 0.1, "score": 0.5, "learning_rate": 0.0}
    for number, (status, teacher, fitted) in enumerate(
        [("finished", False, False), ("stopped", False, False), ("stopped", True, False), ("finished", False, True),
         ("dropped", False, False), ("failed", False, False)]
    ):  # fmt: skip
        made.trials.append(
            state.trial_from_dict(
                {"number": number, "name": "a", "family": "a", "proposal": {}, "specification": {}, "recipe": {},
                 "status": status, "teacher": teacher, "fitted": fitted, "curve": [point]}
            )
        )  # fmt: skip
    made.winner, made.rungs_done, made.spent, made.finished = 0, 2, 50.0, ["teach", "train", "export", "shrink"]
    made.facts = {"precision": "32-true", "refitted": True, "rungs": [], "attempts": {"done": 5}}
    for name in ("trial-00", "trial-00-kept-9", "trial-00-finished", "answers", "pruned", "refitted-0"):
        folder.paths.checkpoint(name).parent.mkdir(exist_ok=True)
        folder.paths.checkpoint(name).write_bytes(b"")
    (folder.root / "metrics.json").write_text("{}")
    folder.give_time(200.0)
    assert [trial.status for trial in made.trials] == ["racing", "racing", "stopped", "finished", "dropped", "failed"]
    assert [trial.ended for trial in made.trials] == [9, 9, None, None, None, None]
    assert (made.winner, made.rungs_done, made.finished) == (None, 0, ["teach"])
    assert made.facts == {"precision": "32-true", "attempts": {"done": 5, "rounds": 2}}
    assert sorted(path.stem for path in (folder.root / "checkpoints").iterdir()) == [
        "answers",
        "trial-00",
        "trial-00-kept-9",
    ]
    assert not folder.finished


def test_a_training_that_had_ended_goes_on_at_its_full_rate(tmp_path):
    bench = bench_of(with_trials(tmp_path / "run", 1))
    trial = with_trials(tmp_path / "same", 1).folder.state.trials[0]
    trainer = bench.trainer(trial)
    trainer.finish_at(6)
    trainer.train(steps=6)
    path = bench.paths.checkpoint("trial-00")
    path.parent.mkdir(exist_ok=True)
    trainer.save(path)
    for ended, rate in ((None, 0.0), (5, 0.0), (6, 1.0)):
        bench.forget_all_but([])
        trial.ended = ended
        again = bench.trainer(trial)
        again.schedule = dataclasses.replace(again.schedule, warmup=1)
        assert again.schedule.factor(again.step) == pytest.approx(rate)


def test_a_result_is_a_line_or_two(tmp_path):
    result = sample_result()
    result.folder = "runs/mine"
    shown = repr(result)
    assert len(shown) < 250
    assert all(word in shown for word in ("image-classification", result.model, "budget", "runs/mine"))
    assert "folder" not in result.to_dict()
    assert repr(type(result)(task="forecasting")) == "FitResult(forecasting)"
