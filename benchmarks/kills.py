"""Kill ``formwright fit`` ten times at random moments and continue it: does it finish, and is anything lost?

``python -m benchmarks.kills [SEED]`` runs the digits for four minutes of the run's own time, with a worker; the kills
are spread over that time by the seed. After each, what was finished must still be there. The last line of standard
output is JSON.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

LIMIT, KILLS = 240.0, 10
OPTIONS = ("--max-time", f"{LIMIT:.0f}s", "--threads", "1", "--worker", "--quiet", "--json", "--yes")


def state_of(root: Path) -> dict[str, Any]:
    path = root / "run.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def finished(state: dict[str, Any]) -> dict[str, Any]:
    """What a continued run must not lose."""
    return {
        "spent": state.get("spent", 0.0),
        "rungs": state.get("rungs_done", 0),
        "stages": state.get("finished", []),
        "steps": {str(t["number"]): t["curve"][-1]["step"] for t in state.get("trials", []) if t["curve"]},
        "variants": [variant["name"] for variant in state.get("variants", [])],
    }


def lost(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What of ``before`` is not in ``after``."""
    found = [name for name in ("spent", "rungs") if after[name] < before[name]]
    found += [name for name in ("stages", "variants") if not set(before[name]) <= set(after[name])]
    found += [f"trial {key}" for key, step in before["steps"].items() if after["steps"].get(key, -1) < step]
    return found


def start(root: Path) -> subprocess.Popen[str]:
    resume = ["--resume"] if (root / "run.json").is_file() else []
    command = [sys.executable, "-m", "formwright.cli", "fit", *OPTIONS, "--out", str(root), *resume]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def run_until(process: subprocess.Popen[str], root: Path, moment: float) -> bool:
    """Kill the run when it has used ``moment`` seconds by its own account, or as much later as that is written."""
    before = state_of(root).get("spent", 0.0)
    begun: float | None = None  # not before it has written something: starting is not what is tested
    while process.poll() is None:
        spent = state_of(root).get("spent", 0.0)
        if begun is None and spent > before:
            begun = time.monotonic() - spent
        if begun is not None and time.monotonic() - begun >= moment:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return True
        time.sleep(0.05)
    return False


def main(seed: int = 0) -> int:
    draw = random.Random(seed)
    moments = sorted(draw.uniform(0.02, 0.95) * LIMIT for _ in range(KILLS))
    losses: list[str] = []
    kills = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "run"
        known = finished({})
        for moment in moments:
            if not run_until(start(root), root, moment):
                break
            now = finished(state_of(root))
            losses += lost(known, now)
            known = now
            kills.append({"after": round(moment, 1), "stages": now["stages"], "rungs": now["rungs"]})
            print(f"killed after {moment:.1f} s: {now}", file=sys.stderr)
        process = start(root)
        output, _ = process.communicate()
        losses += lost(known, finished(state_of(root)))
        leftovers = [path.name for path in root.rglob(".*")]
        result = json.loads(output) if process.returncode == 0 else {"test": {}, "time": {}}
    report = {
        "finished": process.returncode == 0,
        "kills": kills,
        "lost": losses,
        "leftovers": leftovers,
        "accuracy": result["test"].get("accuracy"),
        "seconds": result["time"].get("total"),
        "limit": LIMIT,
    }
    print(json.dumps(report))
    return 0 if report["finished"] and not losses and not leftovers else 1


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:2])))
