"""A run in progress: the task, the budget, the clock, the journal in its folder, and who does the work."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from formwright.errors import CandidateError, LostError
from formwright.files import remove_leftovers
from formwright.fitting.clock import Clock
from formwright.fitting.records import CurvePoint, Trial
from formwright.fitting.state import RunFolder
from formwright.fitting.task import Task
from formwright.interrupts import raise_if_pressed
from formwright.measurement.budget import Budget
from formwright.reporting import Reporter
from formwright.search.executors import PROGRESS, Executor
from formwright.training.recipe import Precision


@dataclass
class Session:
    """Everything that the stages of a run share. They decide; candidates are built and trained by the executor."""

    task: Task
    budget: Budget
    folder: RunFolder
    clock: Clock
    reporter: Reporter
    executor: Executor
    seed: int
    threads: int
    precision: Precision = "32-true"
    #: train the plain peer for as long as the winner, beyond the time of the run
    plain_peer: bool = False
    #: what the report calls the data, where that is not what was read
    source: str | None = None

    def __post_init__(self) -> None:
        self._told = {trial.number: trial.status for trial in self.folder.state.trials}

    def save(self) -> None:
        for trial in self.folder.state.trials:
            if self._told.get(trial.number) != trial.status:
                self._told[trial.number] = trial.status
                self.reporter.event(
                    "candidate", number=trial.number, name=trial.name, status=trial.status, reason=trial.reason
                )
        self.folder.state.spent = self.clock.spent
        self.folder.state.stages = self.clock.stages
        self.folder.save()
        raise_if_pressed()

    def note(self, text: str) -> None:
        """Tell the user now, and in the report; once, if a run that was killed does the same again."""
        if text not in self.folder.state.notes:
            self.folder.state.notes.append(text)
        self.reporter.note(text)

    def leader(self) -> Trial | None:
        """The candidate that has the best validation score so far."""
        scored = [trial for trial in self.folder.state.trials if trial.curve and not trial.teacher]
        return max(scored, key=lambda trial: trial.score, default=None)

    def standing(self) -> str:
        """The best validation score so far and whose it is, in words; nothing before there is one."""
        leader = self.leader()
        return "" if leader is None else f"best: {self.task.metric.text(leader.score)}, {leader.name}"

    def trial(self, number: int | None) -> Trial:
        return next(trial for trial in self.folder.state.trials if trial.number == number)

    def ready(self) -> None:
        """Have the executor ready, before it is decided how much time its work gets."""
        self.executor.start(self.hear)

    def do(self, work: str, **arguments: Any) -> Any:
        """Have a piece of work of :mod:`formwright.fitting.work` done, and write down what is heard of it.

        Raises:
            CandidateError: the candidate cannot go on.
        """
        try:
            return self.executor.run(work, arguments, self.hear)
        except LostError:
            remove_leftovers(self.folder.root)
            raise

    def hear(self, kind: str, values: Mapping[str, Any]) -> None:
        """What a bench tells (see :class:`formwright.fitting.bench.Bench`)."""
        if kind == PROGRESS:
            self.reporter.progress(values["done"], "; ".join(filter(None, (values["text"], self.standing()))))
            return
        if kind == "note":
            self.note(values["text"])
        elif kind == "curve":
            trial = self.trial(values["trial"])
            before = len(trial.curve)
            trial.curve, trial.kept = [CurvePoint(**point) for point in values["curve"]], values["kept"]
            if len(trial.curve) != before:
                self._tell_score(trial)
        elif kind == "facts":
            self.folder.state.facts.update(values)
        self.save()

    def _tell_score(self, trial: Trial) -> None:
        point, metric, leader = trial.curve[-1], self.task.metric, self.leader()
        text = f"{trial.name}: validation {metric.name} {metric.text(point.score)} after {point.seconds:.1f} s"
        if leader is not None and leader is not trial:
            text += f" ({self.standing()})"
        best = None if leader is None else leader.score
        self.reporter.event("score", text, number=trial.number, name=trial.name, best=best, **dataclasses.asdict(point))

    def train_until(self, trial: Trial, seconds: float, *, end: float) -> None:
        """Train a trial until it has had ``seconds`` of training, or the run has used ``end`` seconds.

        What cannot be trained fails, and the run goes on.
        """
        self.ready()
        left = end - self.clock.spent
        running = [other.number for other in self.folder.state.trials if other.status in ("waiting", "racing")]
        try:
            self.do("train", trial=dataclasses.asdict(trial), seconds=seconds, left=left, running=running)
        except CandidateError as error:
            trial.status, trial.reason = "failed", str(error)
            self.save()
