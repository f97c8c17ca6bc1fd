"""The folder of a run: what is written comes back, and nobody else's files are touched."""

from __future__ import annotations

import pytest

from formwright.errors import UserError
from formwright.fitting.records import Baseline, CurvePoint, ShrinkStep, Trial, Variant
from formwright.fitting.state import STATE_FILE, RunFolder

OPTIONS = {"data": None, "max_latency": 0.005, "max_size": 4_000_000, "max_time": 900.0, "seed": 0, "skip_bad": False}


def filled(folder: RunFolder) -> RunFolder:
    state = folder.state
    curve = [CurvePoint(10, 1.5, 0.7, 0.8, 1e-3), CurvePoint(20, 3.0, None, 0.9, 1e-3)]
    state.trials = [Trial(0, "one", "cct", {"width": 8}, {"schema_version": 1}, {"optimizer": "adamw"}, curve=curve)]
    state.variants = [Variant("trained, float32", 0, "float32", "v/a.onnx", 1e-3, 9e-4, 2e-3, 1000, 5, 6, 0.9)]
    state.shrink = [ShrinkStep("INT8 (trained)", True, False, "slower", 2.0)]
    state.baselines = [Baseline("majority class", 0.1, 0.0)]
    state.rungs_done, state.winner, state.spent = 2, 0, 33.0
    state.finished, state.facts, state.notes = ["train"], {"precision": "32-true"}, ["A note."]
    folder.save()
    return folder


def test_what_is_saved_comes_back(tmp_path):
    before = filled(RunFolder.create(tmp_path / "run", OPTIONS))
    before.release()
    assert RunFolder.open(tmp_path / "run", OPTIONS).state == before.state


def test_unfinished_files_are_no_content_and_are_cleaned_up(tmp_path):
    root = tmp_path / "run"
    root.mkdir()
    (root / ".run.json.x1_yz234.part").write_text('{"options"')
    folder = RunFolder.create(root, OPTIONS)
    assert [path.name for path in root.iterdir()] == [STATE_FILE]
    (root / "checkpoints").mkdir()
    for name in (".trial-00.safetensors.abcd1234.part", ".tmpAb3dE6"):
        (root / "checkpoints" / name).write_bytes(b"half")
    folder.paths.checkpoint("trial-00").write_bytes(b"whole")
    folder.release()
    RunFolder.open(root, OPTIONS)
    assert [path.name for path in (root / "checkpoints").iterdir()] == ["trial-00.safetensors"]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("max_latency", None, "was started with --max-latency 5ms, and now no --max-latency is given"),
        ("max_size", 1_000_000, "was started with --max-size 4MB, and now --max-size 1MB is given"),
        ("max_time", 60.0, "was started with --max-time 15m, and now --max-time 60s is given"),
        ("skip_bad", True, "was started with no --skip-bad, and now --skip-bad is given"),
        ("data", "/photos", "was started with no data (scikit-learn's digits), and now the data /photos is given"),
    ],
)
def test_other_options_are_told_as_they_are_written(tmp_path, name, value, words):
    RunFolder.create(tmp_path / "run", OPTIONS)
    with pytest.raises(UserError) as caught:
        RunFolder.open(tmp_path / "run", {**OPTIONS, name: value})
    assert words in str(caught.value)


def test_discarding_deletes_what_the_run_made_and_nothing_else(tmp_path):
    folder = filled(RunFolder.create(tmp_path / "new" / "deep" / "run", OPTIONS))
    folder.paths.variant("trained").mkdir(parents=True)
    folder.discard()
    assert list(tmp_path.iterdir()) == []

    (tmp_path / "mine").mkdir()
    folder = filled(RunFolder.create(tmp_path / "mine", OPTIONS))
    folder.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]

    folder = RunFolder.create(tmp_path / "mine" / "run", OPTIONS)
    (tmp_path / "mine" / "run" / "letter.txt").write_text("dear")
    folder.discard()
    assert [path.name for path in (tmp_path / "mine" / "run").iterdir()] == ["letter.txt"]


def test_two_processes_do_not_work_on_one_run(tmp_path):
    folder = RunFolder.create(tmp_path / "run", OPTIONS)
    with pytest.raises(UserError, match="Another process works on the run"):
        RunFolder.open(tmp_path / "run", OPTIONS)
    folder.release()
    again = RunFolder.open(tmp_path / "run", OPTIONS)
    again.release()
