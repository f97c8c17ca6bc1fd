"""The worker of a run whose candidates crash: ``python -m tests.fitting.saboteur RULES``.

The rules are a JSON list of objects: in the work ``work``, a candidate of ``family`` meets ``how``; in training after
five steps.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from pathlib import Path

import torch

from formwright.fitting import work, worker
from formwright.training.loop import Trainer
from tests.fitting import steady

STEPS = 5


def meet(how: str) -> None:
    if how == "crash":
        ctypes.string_at(0)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "memory":
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, used + 2**28))
        torch.ones(2**30)


def sabotage(rules: list[dict[str, str]]) -> None:
    armed: list[str] = []
    taken = 0
    step = Trainer._step

    def breaking_step(self, *args):
        nonlocal taken
        taken += 1
        if armed and taken > STEPS:
            meet(armed[0])
        return step(self, *args)

    Trainer._step = breaking_step

    def broken(name, real):
        def run(bench, **arguments):
            nonlocal taken
            armed.clear()
            taken = 0
            specification = arguments.get("specification") or arguments["trial"]["specification"]
            for rule in rules:
                if rule["work"] == name and rule["family"] == specification["family"]:
                    armed.append(rule["how"])
                    if name != "train":
                        meet(rule["how"])
            return real(bench, **arguments)

        return run

    for name in ("measure", "train"):
        work.WORK[name] = broken(name, work.WORK[name])


if __name__ == "__main__":
    steady.keep_time()
    sabotage(json.loads(sys.argv[1]))
    worker.main()
