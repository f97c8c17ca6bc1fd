"""The worker of a run whose candidates crash: ``python -m tests.fitting.saboteur RULES``.

The rules are a JSON object: a candidate of this family meets that in the midst of its training.
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


def sabotage(rules: dict[str, str]) -> None:
    step, train = Trainer._step, work.WORK["train"]
    how, taken = None, 0

    def sabotaged_step(self, *args):
        nonlocal taken
        taken += 1
        if how is not None and taken > STEPS:
            meet(how)
        return step(self, *args)

    def sabotaged(bench, *, trial, **arguments):
        nonlocal how, taken
        how, taken = rules.get(trial["family"]), 0
        return train(bench, trial=trial, **arguments)

    Trainer._step = sabotaged_step
    work.WORK["train"] = sabotaged


if __name__ == "__main__":
    steady.keep_time()
    sabotage(json.loads(sys.argv[1]))
    worker.main()
