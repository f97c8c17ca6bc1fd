"""The main job as a user runs it: started, killed, continued; then everything that it wrote is checked."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import environment, process

OPTIONS = (
    "--max-time",
    "45s",
    "--max-size",
    "4MB",
    "--threads",
    "1",
    "--seed",
    "3",
    "--out",
    "mine",
    "--worker",
    "--yes",
)


def start(cwd: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "formwright.cli", "fit", *OPTIONS, *options]
    return subprocess.Popen(command, cwd=cwd, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def state_of(root: Path) -> dict | None:
    path = root / "run.json"
    return json.loads(path.read_text()) if path.is_file() else None


def wait_until_trained(process: subprocess.Popen[bytes], root: Path) -> dict:
    """The state of a run in which the race has scored somebody."""
    for _ in range(3000):
        state = state_of(root)
        if state is not None and any(trial["curve"] for trial in state["trials"]):
            return state
        assert process.poll() is None, "the run ended by itself"
        time.sleep(0.1)
    raise AssertionError("nothing was trained in five minutes")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that was killed in the race and then finished."""
    working = tmp_path_factory.mktemp("fit")
    root = working / "mine"
    process_one = start(working, "--quiet")
    before = wait_until_trained(process_one, root)
    process_one.send_signal(signal.SIGKILL)
    assert process_one.wait() == -signal.SIGKILL
    (root / ".run.json.ab12cd34.part").write_text('{"half": ')
    answer = process("fit", *OPTIONS, "--resume", "--json", cwd=working)
    assert answer.code == 0, answer.err
    return root, before, answer


def test_a_killed_run_is_continued_and_loses_nothing(run):
    root, before, answer = run
    after = state_of(root)
    assert after["spent"] > before["spent"]
    assert [trial["specification"] for trial in after["trials"]][: len(before["trials"])] == [
        trial["specification"] for trial in before["trials"]
    ]
    for old, new in zip(before["trials"], after["trials"], strict=False):
        if old["curve"]:
            assert new["curve"][0] == old["curve"][0]
    result = json.loads(answer.out)
    assert result["time"]["total"] > before["spent"]
    assert sum(seconds for name, seconds in result["time"].items() if name != "total") <= result["time"]["total"]
    assert not list(root.rglob("*.part"))
    assert not list(root.rglob(".tmp*"))


def test_json_is_all_that_is_printed(run):
    _, _, answer = run
    assert json.loads(answer.out)["schema"] == 2
    assert answer.err == ""


def test_everything_is_there_and_agrees(run):
    from formwright.fitting import FitResult
    from formwright.models import from_pretrained

    root, _, answer = run
    for name in ("model.safetensors", "config.json", "model.onnx", "preprocessing.json", "report.html", "splits.json"):
        assert (root / name).stat().st_size > 0, name
    values = json.loads((root / "metrics.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert values == json.loads(answer.out)
    result = FitResult.from_dict(values)
    assert result.to_dict() == values
    assert result.budget_met
    assert (root / "model.onnx").stat().st_size == result.shipped.size <= 4_000_000
    assert result.agreement.same_answer == 1.0
    assert result.agreement.largest_difference < 1e-2
    assert np.array(result.details["confusion"]).sum() == result.data["test"]
    assert {baseline.name for baseline in result.baselines} >= {"majority class", "logistic regression"}
    assert result.test["accuracy"] == pytest.approx(np.trace(result.details["confusion"]) / result.data["test"])
    assert from_pretrained(root).specification.classes == 10


def test_the_shipped_file_and_the_model_say_the_same_of_every_test_picture(run):
    import torch

    from formwright.data import read_images
    from formwright.data.batches import evaluation_batches
    from formwright.deployment import OnnxModel
    from formwright.models import from_pretrained

    root, _, _ = run
    data = read_images(seed=3)
    data.check_splits(root / "splits.json")
    values = json.loads((root / "metrics.json").read_text())
    exported, model = OnnxModel(root / "model.onnx", threads=1), from_pretrained(root)
    shipped = next(variant for variant in values["variants"] if variant["chosen"])
    same = right = 0
    for batch in evaluation_batches(data, "test"):
        with torch.inference_mode():
            eager = model(batch.inputs).argmax(1).numpy()
        answers = exported(np.ascontiguousarray(batch.inputs.numpy())).argmax(1)
        same += int((answers == eager).sum())
        right += int((answers == batch.targets.numpy()).sum())
    assert right / len(data.split.test) == pytest.approx(values["test"]["accuracy"])
    if shipped["precision"] == "float32":
        assert same == len(data.split.test)
    else:
        assert same >= 0.9 * len(data.split.test)


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from formwright.cli import main
main(sys.argv[1:])
"""


def test_predicting_needs_no_torch(run, tmp_path):
    from sklearn.datasets import load_digits

    from formwright.deployment import OnnxModel, load_preparation

    root, _, _ = run
    digits = load_digits()
    files = []
    for index in range(20):
        pixels = np.round(digits.images[index] * (255 / 16)).astype(np.uint8)
        files.append(str(tmp_path / f"{index}.png"))
        Image.fromarray(pixels).save(files[-1])
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, "predict", str(root), *files, "--json"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    predictions = json.loads(done.stdout)
    assert [prediction["file"] for prediction in predictions] == files
    assert all(sum(one["probabilities"].values()) == pytest.approx(1) for one in predictions)
    model = OnnxModel(root / "model.onnx", threads=1)
    preprocessing = load_preparation(root)
    scores = model(np.stack([preprocessing.read(file) for file in files]))
    assert [one["label"] for one in predictions] == [preprocessing.labels[best] for best in scores.argmax(1)]


def test_predicting_what_is_no_picture(run, tmp_path, cli):
    root, _, _ = run
    (tmp_path / "note.png").write_text("milk")
    assert "note.png cannot be used as a picture" in cli("predict", root, tmp_path / "note.png").refusal()
    assert "missing.png" in cli("predict", root, "missing.png").refusal()


def test_a_finished_run_is_not_started_again(run, cli):
    root, _, answer = run
    os.chdir(root.parent)
    again = cli("fit", *OPTIONS, "--resume", "--json")
    assert again.code == 0
    assert again.out == answer.out
    assert "holds a run already" in cli("fit", *OPTIONS).refusal()


def test_ctrl_c_leaves_a_run_that_can_be_continued(tmp_path):
    command = [sys.executable, "-m", "formwright.cli", "fit", *OPTIONS]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for _ in range(3000):
        if (tmp_path / "mine" / "splits.json").is_file():
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    assert err.splitlines()[-1] == "formwright: interrupted; continue with the same options and --resume."
    assert "Traceback" not in err
    assert state_of(tmp_path / "mine")["spent"] > 0
