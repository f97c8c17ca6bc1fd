"""The environment in which timm lives, and the process that runs it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).parent.parent
ENVIRONMENT = ROOT / ".venv-timm"
PACKAGES = ("timm==1.0.31", "torchvision==0.28.0")


def timm_python() -> Path:
    """A Python that can import timm: this one, or that of ``.venv-timm``, which is made where it is missing.

    timm needs torchvision, whose wheel is built for another PyTorch than the one for CPUs. It is therefore installed
    without dependencies in an environment of its own, which sees this one's packages, PyTorch above all: both sides
    run on the same one.
    """
    if importlib.util.find_spec("timm") is not None:
        return Path(sys.executable)
    python = ENVIRONMENT / "bin" / "python"
    if not (ENVIRONMENT / "ready").is_file():
        print(f"Installing timm in {ENVIRONMENT} (once) ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--no-deps", *PACKAGES], check=True)
        own = subprocess.run(
            [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        Path(own, "parent.pth").write_text(sysconfig.get_path("purelib") + "\n")
        (ENVIRONMENT / "ready").touch()
    return python


class Peer:
    """Another library in a process of its own, which answers a line for a line."""

    def __init__(self, python: Path, worker: str = "benchmarks.timm_worker") -> None:
        self._process = subprocess.Popen(
            [str(python), "-m", worker],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Raises:
            RuntimeError: the process has ended; its own words are on the standard error.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"The peer's process ended with code {self._process.wait()}.")
        return json.loads(line)

    def take_turn(self) -> float:
        return float(self.ask(run=1)["seconds"])

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
