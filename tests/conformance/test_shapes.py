"""The shapes written in the signatures of parts are those that pass through them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.skipif(os.environ.get("FORMWRIGHT_CHECK_SHAPES") == "1", reason="this process does it already")
def test_signatures_hold_when_shapes_are_checked() -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(HERE / "test_parts.py")]
    command += [
        str(HERE / "test_models.py"),
        "-k",
        "(shapes or masked or scores or checking_shapes) and not in_training",
    ]
    environment = {**os.environ, "FORMWRIGHT_CHECK_SHAPES": "1"}
    run = subprocess.run(command, env=environment, cwd=HERE.parent.parent, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
