"""What is installed is whole: both wheels are built, and commands run from what lies in them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "src" / "formwright"
#: What the lean distribution leaves out.
LEFT_OUT = {"catalog/cards", "catalog/golden", "catalog/papers.yaml", "catalog/results"}


def run(*args: object, **environment: str) -> str:
    """Standard output of a command that succeeds."""
    done = subprocess.run(
        [str(arg) for arg in args], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """Builds a wheel from a copy of the sources, and gives the folder that its content lies in."""
    folder = tmp_path_factory.mktemp("wheels")
    copy = folder / "copy"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    for name in ("src", "distributions"):
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)

    def build(project: str) -> Path:
        out = folder / (project.replace("/", "-") or "whole")
        options = ("--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", out)
        run(sys.executable, "-m", "pip", "wheel", copy / project, *options)
        (wheel,) = out.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(out / "content")
        return out / "content"

    return build


@pytest.mark.parametrize(("project", "left_out"), [("", set()), ("distributions/predict", LEFT_OUT)])
def test_every_file_of_the_package_is_installed(installed, project, left_out):
    content = installed(project)
    files = {
        path.relative_to(SOURCES).as_posix()
        for path in SOURCES.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    wanted = {name for name in files if not any(f"{name}/".startswith(f"{folder}/") for folder in left_out)}
    missing = sorted(name for name in wanted if not (content / "formwright" / name).is_file())
    assert not missing
    command = (sys.executable, "-c", "import sys; from formwright.cli import main; main(sys.argv[1:])")
    paths = {"PYTHONPATH": str(content)}
    where = run(sys.executable, "-c", "import formwright; print(formwright.__file__)", **paths)
    assert Path(where.strip()).is_relative_to(content)
    assert run(*command, "--version", **paths).strip()
    assert '"poolformer_s12"' in run(*command, "list", "poolformer_s12", "--json", **paths)


def test_what_only_predicts_names_the_other_distribution(monkeypatch, capsys):
    from formwright.cli import _run, app

    def fails(*args, **options):
        raise ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn")

    monkeypatch.setattr(app, "app", fails)
    assert _run(["fit"]) == 2
    assert capsys.readouterr().err == (
        "formwright: This needs torch, which formwright-predict leaves out; install formwright in its place.\n"
    )
