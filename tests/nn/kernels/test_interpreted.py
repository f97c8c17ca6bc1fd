"""The kernels, run on the CPU by Triton's interpreter, are held to the loops that the forms in PyTorch are held to.

In processes of their own, because the interpreter is chosen by the environment before Triton is imported.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
@pytest.mark.parametrize(
    "files",
    [
        ["nn/kernels/interpreted.py"],
        ["nn/functional/test_linear_attention.py", "nn/functional/test_gated_linear_attention.py"],
        ["nn/functional/test_ssd.py"],
        ["nn/functional/test_delta_rule.py"],
        ["nn/functional/test_selective_scan.py"],
    ],
    ids=lambda files: Path(files[-1]).stem,
)
def test_kernels_equal_the_loops(files: list[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "FORMWRIGHT_CHECK_SHAPES"}
    environment |= {"TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "tests.nn.kernels.switched_on"]
    options += ["-k", "not compiled"]  # a graph that is captured has no kernels
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *(str(ROOT / "tests" / file) for file in files)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
