"""``python -m benchmarks``: our models beside timm's of the same names, on the same machine in the same minutes."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import formwright  # noqa: F401  # before PyTorch: it says how idle threads wait, to this process and to the peer's

# isort: split
import torch

from benchmarks import sides, speed
from benchmarks.peer import Peer, timm_python
from formwright.measurement.machine import machine_rates


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 rounds at batch 1, without torch.compile")
    parser.add_argument("--json", action="store_true", help="one JSON object on the standard output, nothing else")
    parser.add_argument("--models", nargs="+", default=speed.MODELS, metavar="NAME")
    parser.add_argument("--batches", nargs="+", type=int, metavar="N")
    parser.add_argument("--forms", nargs="+", choices=sides.FORMS, metavar="FORM", help=", ".join(sides.FORMS))
    parser.add_argument("--kinds", nargs="+", choices=("inference", "training"), default=("inference", "training"))
    parser.add_argument("--rounds", type=int, help="at most; long calls have fewer, at least 5")
    parser.add_argument("--timm-python", type=Path, help="a Python that can import timm; found or made if unset")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    torch.set_num_threads(speed.THREADS)
    machine = machine_rates(speed.THREADS)
    forms = options.forms or [form for form in sides.FORMS if not (options.quick and form == "compile")]
    rounds = options.rounds or (3 if options.quick else 15)
    batches = options.batches or ((1,) if options.quick else speed.BATCHES)
    if not options.json:
        macs, memory = machine.macs_per_second["float32"] / 1e9, machine.bytes_per_second / 1e9
        print(f"{speed.THREADS} threads, {speed.SIZE} px; this machine: {macs:.0f} GMAC/s, {memory:.1f} GB/s")
        print(f"{'form':<10} {'model':<16} batch   timm ms   ours ms  times faster  times the floor")
    figures = []
    with Peer(options.timm_python or timm_python()) as peer:
        for figure in speed.run_cases(peer, options.models, batches, forms, options.kinds, rounds):
            figures.append(figure)
            if not options.json:
                print(_line(figure), flush=True)
    summaries = [summary for goal in speed.GOALS if (summary := goal.summary(figures))]
    if options.json:
        document = {"figures": [figure.to_json() for figure in figures], "goals": summaries}
        json.dump(document, sys.stdout, indent=2)
        return 0
    for each in summaries:
        print(
            f"{each['goal']}: geometric mean {each['geometric_mean']:.2f} (goal {each['asked_mean']}), "
            f"lowest {each['lowest']:.2f} (goal {each['asked_lowest']}): {'met' if each['met'] else 'not met'}"
        )
    return 0


def _line(figure: speed.Figure) -> str:
    return (
        f"{figure.form:<10} {figure.model:<16} {figure.batch:>5} {figure.timm_seconds * 1e3:>9.1f} "
        f"{figure.seconds * 1e3:>9.1f} {figure.speedup:>13.2f} {figure.floor_ratio:>16.1f}"
    )


if __name__ == "__main__":
    sys.exit(main())
