"""A race in which every step takes the same time by the clock of the trainings, so that two races can be compared.

``python -m tests.fitting.steady FOLDER`` starts one with a worker or continues it; with ``worker`` instead, it is that
worker, whose steps take some real time, too, so that it can be killed in between.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from formwright.fitting import bench, race, work, worker
from formwright.fitting.bench import Bench
from formwright.fitting.clock import Clock
from formwright.fitting.records import Trial, trial_from_dict
from formwright.fitting.session import Session
from formwright.fitting.state import SPLITS_FILE, STATE_FILE, RunFolder
from formwright.measurement.budget import Budget
from formwright.reporting import SILENT
from formwright.search.executors import InProcess, Listener, WorkerProcess
from formwright.training import loop

OPTIONS = {
    "task": "image-classification",
    "data": None,
    "seed": 0,
    "skip_bad": False,
    "weights": [],
    "max_size": None,
    "options": {},
}
#: Seconds of a step by that clock (exact in binary), and between two checkpoints.
STEP, CHECKPOINTS = 1 / 128, 1 / 32
FAMILIES = ("poolformer", "cct", "resnet")
RUNGS = [{"entrants": 3, "seconds": 0.125, "survivors": 2}, {"entrants": 2, "seconds": 0.25, "survivors": 1}]
LAST_STEPS = 24
#: Of such a race without disturbance: three first rungs, two second ones, and the end.
ALL_STEPS = 3 * 16 + 2 * 16 + LAST_STEPS


def keep_time(replace: Callable[..., None] = setattr, *, pause: float = 0.0) -> None:
    """Let the clock of the trainings go on by steps alone; ``replace`` may be that of pytest."""
    taken = 0
    step = loop.Trainer._step

    def counted(self, *args):
        nonlocal taken
        result = step(self, *args)
        taken += 1
        time.sleep(pause)
        return result

    replace(loop.Trainer, "_step", counted)
    for module in (loop, bench, work):
        replace(module, "time", SimpleNamespace(monotonic=lambda: taken * STEP))
    replace(bench, "CHECKPOINT_EVERY", CHECKPOINTS)
    work.WORK["last steps"] = last_steps


def last_steps(here: Bench, *, trial: dict[str, Any]) -> None:
    """Train to the end, whose distance is known in steps."""
    chosen = trial_from_dict(trial)
    here.finish(here.trainer(chosen), chosen, 1e6, f"trial-{chosen.number:02d}", most=LAST_STEPS)


def session(root: Path, *, command: Sequence[str] | None = None, families: Sequence[str] = FAMILIES) -> Session:
    """A new or continued run with candidates of these families for the digits; here, or with a worker."""
    setup = {"options": OPTIONS, "folder": str(root), "threads": 1}
    known = (root / STATE_FILE).is_file()
    folder = RunFolder.open(root, OPTIONS) if known else RunFolder.create(root, OPTIONS)
    here = Bench.open(setup, bench.nobody)
    if not known:
        here.task.data.content.save_splits(root / SPLITS_FILE)
        _add_trials(here, folder, families)
    return Session(
        task=here.task,
        budget=Budget(time=600.0),
        folder=folder,
        clock=Clock(600.0, spent=folder.state.spent),
        reporter=SILENT,
        executor=WorkerProcess(command, setup, remedy="") if command else InProcess(partial(in_json, here)),
        seed=0,
        threads=1,
    )


def in_json(here: Bench, name: str, arguments: Mapping[str, Any], listener: Listener) -> Any:
    """The work in this process, with nothing passed that JSON cannot hold."""

    def told(kind: str, values: Mapping[str, Any]) -> None:
        listener(kind, json.loads(json.dumps(values)))

    return json.loads(json.dumps(work.perform(here, name, json.loads(json.dumps(arguments)), told)))


def _add_trials(here: Bench, folder: RunFolder, families: Sequence[str]) -> None:
    for number, family in enumerate(families):
        proposal = here.task.space.propose(family, **here.task.space.ladder(family)[0])
        recipe = dataclasses.asdict(dataclasses.replace(proposal.recipe, batch_size=16))
        folder.state.trials.append(
            Trial(number, family, family, dict(proposal.choices), proposal.specification.to_dict(), recipe)
        )
    folder.state.facts["rungs"] = [{**RUNGS[0], "entrants": len(families)}, *RUNGS[1:]]
    folder.save()


def run(made: Session) -> None:
    """All of the race and the last steps of its winner, or what is left of them."""
    if made.folder.state.winner is None:
        race.race(made, 500.0)
    trial = race.winner(made)
    if trial.status != "finished":
        made.do("last steps", trial=dataclasses.asdict(trial))
        trial.status = "finished"
        made.save()
    made.executor.close()
    made.folder.release()


def outcome(root: Path) -> list[Any]:
    """The numbers of a run."""
    state = RunFolder.open(root, OPTIONS).state
    return [state.winner, *state.trials]


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        keep_time(pause=0.02)
        worker.main()
    else:
        run(session(Path(sys.argv[1]), command=(sys.executable, "-m", "tests.fitting.steady", "worker")))
