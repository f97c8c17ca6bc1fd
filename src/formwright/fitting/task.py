"""What a run learns. The stages of a run ask a task, and know nothing of pictures, texts or series themselves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from formwright.batch import Batch
from formwright.errors import UserError
from formwright.fitting.metric import Metric
from formwright.fitting.records import Baseline, FitResult
from formwright.models.identification import Pretrained
from formwright.objectives import Objective
from formwright.registry import Registry
from formwright.search.space import Space
from formwright.training.loop import TrainingBatches
from formwright.training.recipe import Recipe

#: A model as a function, in PyTorch or in ONNX Runtime: inputs to outputs.
Run = Callable[[Tensor], NDArray[np.float32]]
#: Told how many of how many things are read.
Reading = Callable[[int, int], None]


@dataclass(frozen=True)
class Words:
    """How the report and the terminal speak of a task.

    Attributes:
        model: what is made, such as ``an image classifier``.
        sample: one input, such as ``picture``; ``samples`` several.
        argument: what ``formwright predict`` is given, such as ``picture.png``.
        answer: what it answers, such as ``the class and its probability``.
        figure: what the bars of the metric show, a sentence that begins a caption.
    """

    model: str
    sample: str
    samples: str
    argument: str
    answer: str
    figure: str


@dataclass(frozen=True)
class Peer:
    """The plain model that stands beside every result: what it is called, and its family in the space."""

    name: str
    family: str


@dataclass(frozen=True)
class Findings:
    """What a model does on the test part: figures by name (the metric's under its key), and what the report shows."""

    test: dict[str, float]
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Page:
    """The task's share of the report, from the result alone.

    Attributes:
        answer: the sentence that says how good the shipped model is, without its full stop: pairs of a text and
            whether it is emphasised.
        asked: what the data is, in brackets behind its source.
        figures: of the test part: name, meaning, text.
        facts: of the data: name, text.
        title: of the task's own section.
        template: of that section, a file in ``fitting/templates``; it sees ``page.content``.
        content: what the template needs.
    """

    answer: list[tuple[str, bool]]
    asked: str
    figures: list[tuple[str, str, str]]
    facts: list[tuple[str, str]]
    title: str
    template: str
    content: dict[str, Any] = field(default_factory=dict)


class Shipping(Protocol):
    """What lies beside ``model.onnx`` and turns what a user has into the model's input."""

    def save(self, folder: Path) -> None: ...


class Task(ABC):
    """A kind of data to learn from, and an instance of it that was read.

    Class attributes:
        name: what ``--task`` takes.
        order: the task with the lowest one that recognises the data takes it: the more particular first.
        options: what may be given beyond what every run takes, with what it means.
        metric: what candidates are compared by.
        words: how the task is spoken of.
        peer: the plain model beside every result.
        race_samples: validation samples that a rung of the race looks at; the final choice looks at all.
        keeps_best: whether the weights of the best evaluation are kept, and training ends when it is long past; for
            data that is soon known by heart.
        leaves_range: whether inputs may leave the range of those trained on, as series do; INT8 then is tried only
            where the budget demands it.
        refits: whether the winner learns the validation part too before it is shipped: a running text goes on there.
        calibration_samples: training samples that INT8 ranges are taken from.

    Attributes:
        source: the path or name of the data.
        notes: what was inferred, left out or noticed, in sentences.
        samples: how many there are in the parts ``train``, ``val`` and ``test``.
    """

    name: ClassVar[str]
    order: ClassVar[int] = 0
    options: ClassVar[Mapping[str, str]] = {}
    metric: ClassVar[Metric]
    words: ClassVar[Words]
    peer: ClassVar[Peer]
    race_samples: ClassVar[int] = 2000
    keeps_best: ClassVar[bool] = False
    refits: ClassVar[bool] = False
    leaves_range: ClassVar[bool] = False
    calibration_samples: ClassVar[int] = 512

    source: str
    notes: tuple[str, ...]
    samples: Mapping[str, int]

    # Data

    @classmethod
    @abstractmethod
    def recognise(cls, path: Path | None) -> str | None:
        """What the data at ``path`` is, such as ``a folder with pictures``; none if it is not this task's."""

    @classmethod
    @abstractmethod
    def read(
        cls,
        path: str | Path | None,
        *,
        seed: int,
        skip_bad: bool = False,
        pretrained: Pretrained | None = None,
        progress: Reading | None = None,
        **options: Any,
    ) -> Self:
        """Read, check and split the data.

        Raises:
            UserError: it is missing, unreadable, damaged, or cannot be learned from.
        """

    @abstractmethod
    def save_splits(self, path: str | Path) -> None:
        """Record which sample is in which part (JSON, atomically)."""

    @abstractmethod
    def check_splits(self, path: str | Path) -> None:
        """Raise a ``UserError`` unless samples and parts are those recorded in ``path``."""

    @abstractmethod
    def training_batches(self, batch_size: int, *, seed: int) -> TrainingBatches:
        """Endless batches of the training part that can be continued where they stopped."""

    def refit_batches(self, batch_size: int, *, seed: int) -> tuple[TrainingBatches, int]:
        """What a task that refits learns in the end, all but the test part, and how many batches an epoch has."""
        return self.training_batches(batch_size, seed=seed), -(-self.samples["train"] // batch_size)

    @abstractmethod
    def evaluation_batches(
        self, part: str, *, batch_size: int | None = None, most: int | None = None
    ) -> Iterator[Batch]:
        """The samples of a part once, in order and unchanged; with ``most``, so many at most, evenly spaced."""

    def batch(self, size: int) -> Batch:
        """Training samples as the model takes them."""
        return next(iter(self.evaluation_batches("train", batch_size=size, most=size)))

    def example(self, count: int = 1) -> Tensor:
        """Inputs as the model takes them; one of them is what latency and multiply-accumulates are for."""
        return self.batch(count).inputs

    def calibration(self) -> NDArray[Any]:
        """Training inputs that INT8 ranges are taken from."""
        batches = self.evaluation_batches("train", most=self.calibration_samples)
        return np.concatenate([np.ascontiguousarray(batch.inputs.numpy()) for batch in batches])

    # Learning

    @property
    @abstractmethod
    def space(self) -> Space:
        """What may be proposed."""

    @abstractmethod
    def objective(self, recipe: Recipe | None = None) -> Objective:
        """What is optimised; without a recipe, for timing and for the importance of weights."""

    @abstractmethod
    def distilled(self, recipe: Recipe, teacher: nn.Module) -> Objective:
        """What is optimised by a candidate that also learns from a teacher."""

    @property
    @abstractmethod
    def worthwhile_samples(self) -> float:
        """A training that sees fewer samples than this is not worth a larger model."""

    # Scores

    @abstractmethod
    def counted(self, outputs: NDArray[np.float32], targets: NDArray[Any]) -> tuple[float, float]:
        """The sum that the metric's figure is the mean of, over a batch, and what to divide it by."""

    def same(self, ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which answers are equal: for scores of classes, the largest one's place."""
        return np.asarray(ours.argmax(-1) == theirs.argmax(-1))

    def score(self, run: Run, part: str, *, most: int | None = None) -> float:
        """The score of a model on a part."""
        total = count = 0.0
        for batch in self.evaluation_batches(part, most=most):
            summed, number = self.counted(run(batch.inputs), batch.targets.numpy())
            total += summed
            count += number
        return self.metric.score(total / count)

    @abstractmethod
    def examine(self, run: Run, model: nn.Module) -> Findings:
        """What the shipped file (``run``) does on the test part; ``model`` is the same in PyTorch."""

    @abstractmethod
    def baselines(self, *, seconds: float, seed: int) -> list[Baseline]:
        """Trivial competitors on the test part, in about so many seconds; their names never change."""

    # Shipping and reporting

    @abstractmethod
    def preprocessing(self) -> Shipping:
        """What ``formwright predict`` needs beside the exported model."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What the data is, as JSON."""

    def attachments(self, details: Mapping[str, Any]) -> dict[int, Any]:
        """What the report shows of the data itself and ``metrics.json`` does not hold, by number."""
        return {}

    @classmethod
    @abstractmethod
    def page(cls, result: FitResult, attachments: Mapping[int, Any]) -> Page:
        """The task's share of the report."""


TASKS: Registry[type[Task]] = Registry("task", group="formwright.tasks")


def find_task(path: Path | None, name: str | None, options: Mapping[str, Any]) -> tuple[type[Task], str]:
    """The task that was named, or that recognises the data and takes the options; and why, where it was guessed.

    What nobody recognises is left to the task of pictures, whose reader says what is wrong with it.

    Raises:
        UserError: there is no such task, or none that takes these options.
    """
    if name is not None:
        task = TASKS[name]
        _check_options(task, options)
        return task, ""
    tasks = sorted((TASKS[known] for known in TASKS), key=lambda task: task.order)
    able = [task for task in tasks if set(options) <= set(task.options)]
    for task in able:
        reason = task.recognise(path)
        if reason is not None:
            return task, reason
    for task in tasks:
        if task.recognise(path) is not None:
            _check_options(task, options)
    if options and able:
        return able[0], ""
    fallback = TASKS["image-classification"]
    _check_options(fallback, options)
    return fallback, ""


def _check_options(task: type[Task], options: Mapping[str, Any]) -> None:
    unknown = [name for name in options if name not in task.options]
    if unknown:
        offered = ", ".join(f"--{name.replace('_', '-')}" for name in task.options) or "none of its own"
        raise UserError(
            f"The task {task.name} has no option --{unknown[0].replace('_', '-')}; its options are: {offered}."
        )
