"""What a run learns: a kind of data times a goal. Any two of the same target make a task."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from formwright.data.series_files import number_with_unit
from formwright.data.sheets import READERS, read_sheet
from formwright.data.walk import some
from formwright.errors import UnknownNameError, UserError
from formwright.fitting.goal import GOALS, Goal
from formwright.fitting.kind import DATA, Data, Option, Reading
from formwright.fitting.metric import Metric

if TYPE_CHECKING:
    from torch import nn

    from formwright.objectives import Objective
    from formwright.search.space import Space
    from formwright.training.recipe import Recipe


@dataclass(frozen=True)
class Words:
    """How the report and the terminal speak of a task; see :class:`Data` and :class:`Goal`."""

    model: str
    sample: str
    samples: str
    argument: str
    answer: str
    figure: str


@dataclass(frozen=True)
class TaskType:
    """A kind of data and a goal that takes it."""

    data: type[Data]
    goal: type[Goal[Any]]

    @property
    def name(self) -> str:
        """What ``--task`` takes: ``image-classification``, ``forecasting``."""
        return "-".join(filter(None, (self.data.subject, self.goal.name)))

    @property
    def metric(self) -> Metric:
        return self.goal.metric

    def metric_of(self, told: Mapping[str, Any]) -> Metric:
        """The metric of a run, from what its result tells of it."""
        return next((one for one in self.goal.metrics if one.key == told.get("key")), self.metric)

    @property
    def options(self) -> dict[str, Option]:
        """What may be given beyond what every run takes."""
        return {**self.data.options, **self.goal.options}

    @property
    def words(self) -> Words:
        data = self.data
        named = {"samples": data.samples, "asked": data.asked}
        model, answer, figure = (text.format(**named) for text in (self.goal.model, self.goal.answer, self.goal.figure))
        return Words(model, data.sample, data.samples, data.argument, answer, figure)

    def read(self, path: str | Path | None, how: Reading | None = None) -> Task:
        """Read, check and split the data.

        Raises:
            UserError: it is missing, unreadable, damaged, or cannot be learned from, or a checkpoint is of no use.
        """
        how = how or Reading()
        if how.weights:
            self.check_takes_weights()
        data_options, goal_options = (
            {name: value for name, value in how.options.items() if name in declared}
            for declared in (self.data.options, self.goal.options)
        )
        where = None if path is None else Path(path).expanduser()
        asked = dataclasses.replace(how, options=data_options)
        data = self.data.read(where, asked)
        task = Task(self, data, self.goal(data, **goal_options), how.families)
        if how.families:  # refused before anything is made of them
            _ = task.space
        return task

    def check_takes_weights(self) -> None:
        """Raise a ``UserError`` if a checkpoint is of no use to the task."""
        if not self.data.takes_weights:
            raise UserError(f"A checkpoint (--weights) cannot join a race of {self.name}; leave it out.")

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Raise a ``UserError`` for an option that the task does not have."""
        unknown = [name for name in options if name not in self.options]
        if unknown:
            offered = ", ".join(f"--{name.replace('_', '-')}" for name in self.options) or "none of its own"
            raise UserError(
                f"The task {self.name} has no option --{unknown[0].replace('_', '-')}; its options are: {offered}."
            )


class Task:
    """Data that was read, and the goal that it is for."""

    def __init__(self, kind: TaskType, data: Data, goal: Goal[Any], families: Sequence[str] = ()) -> None:
        self.kind, self.data, self.goal, self.families = kind, data, goal, families
        self.name, self.metric = kind.name, goal.metric

    @cached_property
    def space(self) -> Space:
        """What may be proposed.

        Raises:
            UserError: a family that was named is no candidate.
        """
        from formwright.search.space import space_for

        return space_for(self.name, self.data.shape, self.families)

    def distilled(self, recipe: Recipe, teacher: nn.Module) -> Objective:
        return self.goal.distilled(recipe, teacher)


def task_types() -> dict[str, TaskType]:
    """Every task by name, in the order in which they are asked whether they recognise data."""
    kinds = sorted((DATA[name] for name in DATA), key=lambda kind: kind.order)
    found = [TaskType(kind, GOALS[goal]) for kind in kinds for goal in GOALS if GOALS[goal].target == kind.target]
    return {one.name: one for one in found}


def task_type(name: str) -> TaskType:
    """The task of a name.

    Raises:
        UserError: there is none.
    """
    known = task_types()
    if name not in known:
        raise UnknownNameError("task", name, known)
    return known[name]


def find_task(path: Path | None, name: str | None, options: Mapping[str, Any]) -> tuple[TaskType, str]:
    """The task that was named, or that recognises the data and takes the options; and why, where it was guessed.

    Data that no task recognises is left to the one that takes the options, whose reader says what is wrong.

    Raises:
        UserError: there is no such task, none that takes these options, or none that recognises the data.
    """
    if name is not None:
        named = task_type(name)
        named.check_options(options)
        return named, ""
    tasks = list(task_types().values())
    able = [task for task in tasks if set(options) <= set(task.options)]
    for task in able:
        reason = task.data.recognise(path)
        if reason is not None:
            return task, reason
    for task in tasks:
        if task.data.recognise(path) is not None:
            task.check_options(options)
    for task in able:
        reason = None if path is None or not path.exists() else task.data.recognise_by(path, options)
        if reason is not None:
            return task, reason
    if options and able:
        return able[0], ""
    raise UserError(_unknown(path))


def expected() -> str:
    """The kinds of data that are read, in words."""
    return "; ".join(dict.fromkeys(task.data.expects for task in task_types().values()))


def _unknown(path: Path | None) -> str:
    if path is None or not path.exists():
        return f"There is no {path}; check the path. What is read: {expected()}."
    if path.is_dir():
        empty = not any(path.iterdir())
        return f"{path} {'is empty' if empty else 'holds nothing that is recognised'}; what is read: {expected()}."
    if path.suffix.lower() in READERS:
        frame = read_sheet(path).frame
        columns = some([repr(str(name)) for name in frame.columns], 8)
        example = number_with_unit(frame.select_dtypes(exclude="number"))
        return (
            f"{path.name} has no column of times beside one of numbers, and none of texts, among {columns}{example}: "
            "say what it holds, by --task forecasting --time COLUMN, --task text-classification --text-column COLUMN "
            "or --task series-classification."
        )
    return (
        f"{path} is a file of a kind that is not recognised; unpack it, convert it, or name its task with --task. What "
        f"is read: {expected()}."
    )
