"""What a worker process costs a run: the same run of ``formwright fit`` without and with one.

``python -m benchmarks.executors [SECONDS] [SEED]`` fits the digits both ways, one after the other. A run takes the time
that it is given, so what a worker costs is time for training: ``slower`` is the training that was lost, as a share of
the run. The last line of standard output is JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def run(limit: float, seed: int, *options: str) -> dict[str, Any]:
    """A run, and how much of it was training."""
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "run")
        command = [sys.executable, "-m", "formwright.cli", "fit", "--max-time", f"{limit:.0f}s", "--seed", str(seed)]
        command += ["--threads", "1", "--yes", "--json", "--out", out, *options]
        started = time.monotonic()
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        wall = time.monotonic() - started
    result = json.loads(done.stdout)
    points = [trial["curve"][-1] for trial in result["trials"] if trial["curve"]]
    return {
        "wall": round(wall, 1),
        "total": round(result["time"]["total"], 1),
        "stages": {name: round(seconds, 1) for name, seconds in result["time"].items() if name != "total"},
        "training": round(sum(point["seconds"] for point in points), 1),
        "steps": sum(point["step"] for point in points),
        "candidates": len(points),
        "accuracy": result["test"]["accuracy"],
    }


def main(limit: float = 120.0, seed: float = 0) -> None:
    here = run(limit, int(seed), "--no-worker")
    print(f"in the same process: {here}", file=sys.stderr)
    apart = run(limit, int(seed), "--worker")
    print(f"with a worker: {apart}", file=sys.stderr)
    slower = (here["training"] - apart["training"]) / here["total"]
    print(json.dumps({"here": here, "apart": apart, "slower": round(slower, 4)}))


if __name__ == "__main__":
    main(*map(float, sys.argv[1:3]))
