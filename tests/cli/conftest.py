"""The command line, run as a user runs it: arguments in; exit code, standard output and standard error out."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from formwright.cli import main

ROOT = Path(__file__).parents[2]


@dataclass
class Answer:
    code: int
    out: str
    err: str

    def refusal(self) -> str:
        """The one sentence of a refused command."""
        assert self.code == 2, self
        assert self.out == "", self
        assert self.err.count("\n") == 1, self.err
        assert self.err.endswith("\n"), self.err
        assert self.err.startswith("formwright: "), self.err
        assert "Traceback" not in self.err
        return self.err.removeprefix("formwright: ").strip()


@pytest.fixture
def cli(capsys, monkeypatch, tmp_path):
    """Runs the command line in this process, in an empty working folder."""
    working = tmp_path / "working"
    working.mkdir()
    monkeypatch.chdir(working)

    def run(*args: object) -> Answer:
        with pytest.raises(SystemExit) as ended:
            main([str(arg) for arg in args])
        captured = capsys.readouterr()
        return Answer(int(ended.value.code or 0), captured.out, captured.err)

    return run


def environment() -> dict[str, str]:
    paths = [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def process(*args: object, cwd: Path, **options) -> Answer:
    """Runs the command line as a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "formwright.cli", *map(str, args)],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        **options,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def save_picture(path: Path, seed: int, size: tuple[int, int] = (12, 12)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def photos(tmp_path) -> Path:
    """Two classes with ten pictures each."""
    folder = tmp_path / "photos"
    for label, name in enumerate(("cat", "dog")):
        for index in range(10):
            save_picture(folder / name / f"{index}.png", 100 * label + index)
    return folder
