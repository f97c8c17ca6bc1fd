"""A goal: what is learned from data, by what candidates are compared, and what is told of the one that is shipped.

A goal is a subclass of :class:`Goal` in a module of ``formwright.fitting.goals``; it takes every kind of data whose
samples have its target. The command line imports these modules for their options, so what needs PyTorch is imported
where it is used.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from formwright.deployment.preparation import Preparation
from formwright.fitting.kind import Data, Option
from formwright.fitting.metric import Metric
from formwright.fitting.records import Baseline, FitResult
from formwright.fitting.shown import Shown
from formwright.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor, nn

    from formwright.objectives import Objective
    from formwright.training.recipe import Recipe

#: A model as a function, in PyTorch or in ONNX Runtime: inputs to outputs.
Run: TypeAlias = "Callable[[Tensor], NDArray[np.float32]]"

D = TypeVar("D", bound=Data)


@dataclass(frozen=True)
class Findings:
    """What a model does on the test part: figures by name (the metric's under its key), and what the report shows."""

    test: dict[str, float]
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Page:
    """The goal's share of the report.

    Attributes:
        answer: how good the shipped model is, the figure first: the headline, without its full stop.
        figures: of the test part: name, meaning, text.
        content: what the template of the goal's own section needs; it sees ``page.content``.
        told: figures that people understand sooner than the metric, name and text: what the terminal says first.
    """

    answer: str
    figures: list[tuple[str, str, str]]
    content: dict[str, Any] = field(default_factory=dict)
    told: list[tuple[str, str]] = field(default_factory=list)


class Goal(ABC, Generic[D]):
    """What is learned from ``data``.

    In the texts among the class attributes, ``{samples}`` and whatever else a kind of data calls itself is filled in.

    Class attributes:
        name: in the registry, which is that of the module; the names of its tasks end with it.
        target: what the samples of its data have as their target.
        options: what may be given beyond what every run takes.
        metric: what candidates are compared by; ``metrics`` are others that an option may choose.
        model: what is made, such as ``a classifier of {samples}``.
        answer: what ``formwright predict`` answers, such as ``the class of {asked} and its probability``.
        figure: what the bars of the metric show, a sentence that begins a caption.
        title: of the goal's own section in the report; ``template`` is its file in ``fitting/templates``, or in a
            folder ``templates`` beside the goal's own file.
        tolerance: how far outputs of the exported file may be from the model's and count as the same answer; without
            one, outputs are scores, and the answer is the place of the largest.
        averages: whether outputs are scores of one set of classes, so that models may be averaged.

    Args:
        data: whose samples have the goal's target.
        options: of the goal, as they were given.
    """

    name: ClassVar[str]
    target: ClassVar[str]
    options: ClassVar[Mapping[str, Option]] = {}
    metric: Metric
    metrics: ClassVar[Sequence[Metric]] = ()
    model: ClassVar[str]
    answer: ClassVar[str]
    figure: ClassVar[str]
    title: ClassVar[str]
    template: ClassVar[str]
    tolerance: ClassVar[float | None] = None
    averages: ClassVar[bool] = False

    def __init__(self, data: D, **options: Any) -> None:
        self.data = data

    # Learning

    @abstractmethod
    def objective(self, recipe: Recipe | None = None) -> Objective:
        """What is optimised; without a recipe, for timing and for the importance of weights."""

    @abstractmethod
    def distilled(self, recipe: Recipe, teacher: nn.Module) -> Objective:
        """What is optimised by a candidate that also learns from a teacher."""

    def check_outputs(self, outputs: Any) -> None:
        """Refuse the outputs of a model that was made for other data.

        Raises:
            UserError: says what does not fit.
        """

    # Scores

    def calibrate(self, run: Run, *, seconds: float, most_bytes: float = math.inf) -> None:
        """Find out on the validation part what must be known of a model, before it learns that part too.

        Args:
            seconds: that it may take, about.
            most_bytes: what may be shipped beside the model.
        """

    @property
    def asks_model(self) -> bool:
        """Whether the model has a share in the answers, so that it pays to let it learn more."""
        return True

    def called(self, model: str) -> str:
        """What is shipped, as its title; ``model`` is the name of the model in ``model.onnx``."""
        return model

    @abstractmethod
    def counted(self, outputs: NDArray[np.float32], targets: NDArray[Any]) -> tuple[float, float]:
        """The sum that the metric's figure is the mean of, over a batch, and what to divide it by."""

    def same(self, ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which answers of the exported file (``theirs``) are those of the model (``ours``)."""
        if self.tolerance is None:
            return np.asarray(ours.argmax(-1) == theirs.argmax(-1))
        differences = np.abs(ours - theirs).reshape(len(ours), -1)
        return np.asarray(differences.max(axis=1) <= self.tolerance)

    def score(self, run: Run, part: str, *, most: int | None = None) -> float:
        """The score of a model on a part."""
        total = count = 0.0
        for batch in self.data.evaluation_batches(part, most=most):
            summed, number = self.counted(run(batch.inputs), batch.targets.numpy())
            total += summed
            count += number
        return self.metric.score(total / count)

    def scored(self, outputs: NDArray[np.float32], targets: NDArray[Any]) -> float:
        """The score of outputs for some samples, as :meth:`score` has it of a part."""
        total, count = self.counted(outputs, targets)
        return self.metric.score(total / count)

    def loss(self, outputs: NDArray[np.float32], targets: NDArray[Any]) -> float | None:
        """What tells answers of equal scores apart, less is better: the log loss of classes; none if nothing does."""
        return None

    def least(self, run: Run, part: str) -> float:
        """What a score on a few samples is worth: it less its standard error, ``deviation / sqrt(n)``.

        A share of right answers is taken as ``p = (right + 1) / (n + 2)``, with ``sqrt(p (1 - p) / (n + 2))`` as its
        error: six of six are worth 0.76.
        """
        batches = [(run(batch.inputs), batch.targets.numpy()) for batch in self.data.evaluation_batches(part)]
        outputs, targets = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
        count, score = len(targets), self.scored(outputs, targets)
        if self.metric.share:
            share = (score * count + 1) / (count + 2)
            return share - math.sqrt(share * (1 - share) / (count + 2))
        each = [self.scored(outputs[row : row + 1], targets[row : row + 1]) for row in range(count)]
        return score - float(np.std(each)) / math.sqrt(max(count - 1, 1))

    @abstractmethod
    def examine(self, run: Run, model: nn.Module) -> Findings:
        """What the shipped file (``run``) does on the test part; ``model`` is the same in PyTorch."""

    @abstractmethod
    def baselines(self, *, seconds: float, seed: int) -> list[Baseline]:
        """Trivial competitors on the test part, in about so many seconds; their names never change.

        Those that could be shipped are candidates (:attr:`formwright.candidates.Candidate.fit`).
        """

    # Shipping and reporting

    @property
    def preparation(self) -> Preparation:
        """What is saved beside the exported model; it may hold what was found out about the model."""
        return self.data.preparation

    def attachments(self, details: Mapping[str, Any]) -> dict[int, Shown | None]:
        """What the report shows of the data itself and ``metrics.json`` does not hold, by number."""
        return {}

    @classmethod
    @abstractmethod
    def page(cls, result: FitResult, data: type[Data], attachments: Mapping[int, Shown | None]) -> Page:
        """The goal's share of the report, from the result alone."""


GOALS: Registry[type[Goal[Any]]] = Registry("goal", group="formwright.goals", package="formwright.fitting.goals")
