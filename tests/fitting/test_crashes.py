"""A run that dies at any write, and is continued as often as that, finishes and loses nothing that was finished."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import onnx
import pytest

from formwright.errors import UserError
from formwright.files import is_leftover
from formwright.fitting import FitResult, fit
from formwright.fitting.state import STATE_FILE


class Killed(BaseException):
    """What no handler may catch, as a process that is killed runs none."""


@pytest.fixture
def fuse(monkeypatch):
    """``fuse(n)`` lets ``n`` files be written whole; the next one is left unfinished as the process dies."""
    original = Path.replace
    left = [10**9]

    def replace(self: Path, target: Path) -> Path:
        if left[0] == 0:
            shutil.copyfile(self, self.with_name(f".{Path(target).name}.ab_cd123.part"))
            raise Killed
        left[0] -= 1
        return original(self, target)

    monkeypatch.setattr(Path, "replace", replace)

    def burn(writes: int) -> None:
        left[0] = writes

    return burn


def finished(root: Path) -> dict:
    """What a continued run must not lose."""
    state = json.loads((root / STATE_FILE).read_text())
    return {
        "spent": state["spent"],
        "rungs": state["rungs_done"],
        "stages": set(state["finished"]),
        "steps": {trial["number"]: trial["curve"][-1]["step"] for trial in state["trials"] if trial["curve"]},
        "variants": {variant["name"] for variant in state["variants"]},
        "tried": {step["name"] for step in state["shrink"]},
    }


def assert_nothing_lost(before: dict, after: dict) -> None:
    assert after["spent"] >= before["spent"]
    assert after["rungs"] >= before["rungs"]
    for name in ("stages", "variants", "tried"):
        assert after[name] >= before[name]
    assert all(after["steps"][number] >= step for number, step in before["steps"].items())


def test_a_run_that_dies_again_and_again_finishes(tmp_path, short_runs, fuse):
    root = tmp_path / "run"
    known: dict | None = None
    result: FitResult | None = None
    deaths = 0
    for writes in (0, 1, 2, 4, 1, 3, 6, 5, 7, 9, 8, 20, 20, 20, 20, 20, 20):
        fuse(writes)
        try:
            result = fit(out=root, max_time=12, threads=1, resume=(root / STATE_FILE).exists())
        except Killed:
            deaths += 1
        else:
            break
        if (root / STATE_FILE).exists():
            now = finished(root)
            if known is not None:
                assert_nothing_lost(known, now)
            known = now
        assert not (root / "metrics.json").exists()
    assert result is not None, "it never finished"
    assert deaths >= 8
    assert known is not None
    assert_nothing_lost(known, finished(root))
    assert not [path for path in root.rglob("*") if is_leftover(path)]
    assert FitResult.from_dict(json.loads((root / "metrics.json").read_text())) == result
    graphs = [onnx.load(root / name).graph for name in (result.shipped.file, "model.onnx")]
    assert graphs[0] == graphs[1]
    assert result.time["total"] >= known["spent"]
    # Once finished, it is only read.
    fuse(0)
    assert fit(out=root, max_time=12, threads=1, resume=True) == result


def test_a_full_disk_at_the_start_leaves_nothing(tmp_path, monkeypatch):
    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(UserError, match=r"run\.json could not be written \(No space left on device\): make room"):
        fit(out=tmp_path / "new" / "run", threads=1)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_in_the_midst_keeps_what_is_finished(tmp_path, short_runs, monkeypatch):
    original = Path.replace

    def full(self: Path, target: Path) -> Path:
        if Path(target).suffix == ".onnx" and "variants" in Path(target).parts:
            raise OSError(28, "No space left on device")
        return original(self, target)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(UserError, match=r"\.onnx could not be written .*make room.*continue with --resume"):
        fit(out=tmp_path / "run", max_time=6, threads=1)
    assert finished(tmp_path / "run")["stages"] == {"train"}
    assert not [path for path in tmp_path.rglob("*") if is_leftover(path)]
