"""A kind of data: how it is recognised, read, split, batched, shown, and prepared for the exported model.

A kind is a subclass of :class:`Data` in a module of ``formwright.fitting.data``; with a goal of the same target it
makes a task (:mod:`formwright.fitting.task`). The command line imports these modules for their options, so what needs
PyTorch is imported where it is used.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from formwright.deployment.preparation import Preparation
from formwright.fitting.shown import Shown
from formwright.registry import Registry
from formwright.shapes import Shape

if TYPE_CHECKING:
    from torch import Tensor

    from formwright.batch import Batch
    from formwright.data.epochs import EpochBatches
    from formwright.data.splits import Split
    from formwright.models.pretrained import Pretrained

PARTS = ("train", "val", "test")
#: Below so many samples in all, candidates are scored on folds and what is shipped has learned the test part too.
FEW_SAMPLES = 1000
#: Where a teacher has answered, the share of the true class in what is learned.
TRUE_SHARE = 0.3


@dataclass(frozen=True)
class Option:
    """What may be given beyond what every run takes; the command line and the checks are made of these.

    Attributes:
        help: what it means.
        kind: of the value on the command line.
    """

    help: str
    kind: type[str] | type[int] | type[float] = str


#: An option of kinds that read texts or tables.
ENCODING = Option("encoding of files that are neither marked nor UTF-8, such as cp1252")


@dataclass(frozen=True)
class Reading:
    """How data is to be read.

    Attributes:
        seed: of the parts that are drawn.
        skip_bad: leave out what cannot be read, instead of refusing the data.
        weights: the checkpoints of the user that some candidates will start from; for kinds that take them.
        progress: told how many of how many samples are read.
        options: of the kind, as they were given.
        most_bytes: that the exported file may have, if that is limited.
        out: where the run writes its results, which are no data.
        families: that alone are tried; all if empty.
    """

    seed: int = 0
    skip_bad: bool = False
    weights: Sequence[Pretrained] = ()
    progress: Callable[[int, int], None] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    most_bytes: float | None = None
    out: Path | None = None
    families: Sequence[str] = ()


class Content(Protocol):
    """What was read: the samples, and which of them are in which part."""

    @property
    def source(self) -> str:
        """The path or name of the data."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What was inferred, left out or noticed, in sentences."""

    def save_splits(self, path: str | Path) -> None:
        """Record which sample is in which part (JSON, atomically)."""

    def check_splits(self, path: str | Path) -> None:
        """Raise a ``UserError`` unless samples and parts are those recorded in ``path``."""


class Data(ABC):
    """A kind of data, and an instance of it that was read.

    Class attributes:
        name: in the registry, which is that of the module.
        subject: what the names of its tasks begin with, such as ``image``; may be empty.
        target: what a sample's target is (``classes``, ``next tokens``, ``next steps``); goals with the same learn it.
        order: the kind with the lowest one that recognises the data takes it: the more particular first.
        expects: what is recognised and read, in a few words.
        options: what may be given beyond what every run takes.
        sample, samples: one input, such as ``picture``, and several.
        argument: what ``formwright predict`` is given, such as ``picture.png``; ``asked`` says it in words.
        takes_weights: whether a checkpoint of the user may join the race.
        race_samples: validation samples that a rung of the race looks at; the final choice looks at all.
        fewest_steps: training steps that a candidate makes before it is judged, if three times the seconds of a round
            suffice.
        several_widths: whether families enter the race with a narrow member too, and not only with the widest.
        mirrors: whether a sample and its mirror image, left to right, mean the same: so it is where
            both are trained on.
        keeps_best: whether the weights of the best evaluation are kept, and training ends when it is long past; for
            data that is soon memorised.
        learns_all: whether what is shipped learns the test part too, however many samples there are: the latest rows
            of series say most.
        leaves_range: whether inputs may leave the range of those trained on, as series do; INT8 then is tried only
            where the budget demands it.
        calibration_samples: training samples that INT8 ranges are taken from.
        free: axes of the input that may have any size in the exported model, such as ``height`` and ``width``.
        dealt: whether samples may be dealt into folds by chance, as none says anything of another.

    Attributes:
        content: what was read.
        preparation: the object that makes inputs, is saved beside the model, and predicts.
        samples_of: how many there are in the parts ``train``, ``val`` and ``test``.
        weights: the checkpoints that candidates start from, made to suit the data.
    """

    name: ClassVar[str]
    subject: ClassVar[str]
    target: ClassVar[str]
    order: ClassVar[int] = 50
    expects: ClassVar[str]
    options: ClassVar[Mapping[str, Option]] = {}
    sample: ClassVar[str]
    samples: ClassVar[str]
    argument: ClassVar[str]
    asked: ClassVar[str]
    takes_weights: ClassVar[bool] = False
    race_samples: ClassVar[int] = 2000
    fewest_steps: ClassVar[int] = 0
    several_widths: ClassVar[bool] = False
    keeps_best: ClassVar[bool] = False
    mirrors: bool = False
    learns_all: ClassVar[bool] = False
    leaves_range: ClassVar[bool] = False
    calibration_samples: ClassVar[int] = 512
    free: ClassVar[tuple[str, ...]] = ()
    dealt: ClassVar[bool] = False

    content: Content
    preparation: Preparation
    samples_of: Mapping[str, int]
    weights: Sequence[Pretrained] = ()

    # Reading

    @classmethod
    @abstractmethod
    def recognise(cls, path: Path | None) -> str | None:
        """What the data at ``path`` is, such as ``a folder with pictures``; none if it is not of this kind."""

    @classmethod
    def recognise_by(cls, path: Path, options: Mapping[str, Any]) -> str | None:
        """As :meth:`recognise`, with the options that were given, of data that no kind recognises without them."""
        return None

    @classmethod
    @abstractmethod
    def read(cls, path: Path | None, how: Reading) -> Self:
        """Read, check and split the data.

        Raises:
            UserError: it is missing, unreadable, damaged, or cannot be learned from.
        """

    @property
    def notes(self) -> tuple[str, ...]:
        """What was inferred, left out or noticed, in sentences."""
        return self.content.notes

    # Batches

    @abstractmethod
    def training_batches(self, batch_size: int, *, seed: int, parts: Sequence[str] = ("train",)) -> EpochBatches:
        """Endless batches of some parts together that can be continued where they stopped."""

    @abstractmethod
    def evaluation_batches(
        self, part: str, *, batch_size: int | None = None, most: int | None = None
    ) -> Iterator[Batch]:
        """The samples of a part once, in order and unchanged; with ``most``, so many at most, evenly spaced."""

    def batches_of(
        self, inputs: NDArray[Any], targets: NDArray[Any], batch_size: int, *, seed: int
    ) -> EpochBatches | None:
        """Endless batches of samples as :meth:`some` gives them, to train on; none where these cannot be trained on."""
        return None

    @property
    def few(self) -> bool:
        """Whether there are fewer than :data:`FEW_SAMPLES` samples in all."""
        return sum(self.samples_of.values()) < FEW_SAMPLES

    def batch(self, size: int) -> Batch:
        """Training samples as the model takes them."""
        return next(iter(self.evaluation_batches("train", batch_size=size, most=size)))

    def example(self, count: int = 1) -> Tensor:
        """Inputs as the model takes them; one of them is what latency and multiply-accumulates are for."""
        inputs: Tensor = self.batch(count).inputs
        return inputs

    def some(self, parts: Sequence[str], most: int) -> tuple[Tensor, NDArray[np.int64]]:
        """So many samples of some parts at most, evenly spaced: inputs as the model takes them, and targets."""
        import torch

        share = min(1.0, most / max(sum(self.samples_of[part] for part in parts), 1))
        counts = {part: max(round(share * self.samples_of[part]), 1) for part in parts}
        batches = [batch for part in parts for batch in self.evaluation_batches(part, most=counts[part])]
        return torch.cat([batch.inputs for batch in batches]), torch.cat([batch.targets for batch in batches]).numpy()

    def calibration(self) -> NDArray[Any]:
        """Training inputs that INT8 ranges are taken from."""
        batches = self.evaluation_batches("train", most=self.calibration_samples)
        return np.concatenate([np.ascontiguousarray(batch.inputs.numpy()) for batch in batches])

    # Searching and reporting

    @property
    @abstractmethod
    def shape(self) -> Shape:
        """What candidates need to know of the data to be built (:mod:`formwright.shapes`)."""

    @property
    @abstractmethod
    def worthwhile_samples(self) -> float:
        """A training that sees fewer samples than this is not worth a larger model."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What the data is, as JSON."""

    @classmethod
    @abstractmethod
    def facts(cls, data: Mapping[str, Any]) -> list[tuple[str, str]]:
        """What the report says of the data, from what :meth:`describe` gave: name, text."""

    @classmethod
    @abstractmethod
    def summary(cls, data: Mapping[str, Any]) -> str:
        """The data in a few words, as :meth:`facts`."""

    def show(self, index: int) -> Shown | None:
        """A sample as the report shows it; none where there is nothing to see."""
        return None


@dataclass(frozen=True)
class Answers:
    """What a teacher says of samples, for others to learn from.

    Attributes:
        shares: by part, the probability of each class for each sample ``(samples, classes)``.
        inputs: of further samples, which have no class of their own; as the model takes them.
        further: the same of these.
    """

    shares: Mapping[str, NDArray[np.float32]]
    inputs: NDArray[Any] | None = None
    further: NDArray[np.float32] | None = None


class LabelledContent(Content, Protocol):
    @property
    def labels(self) -> NDArray[np.int64]: ...

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def split(self) -> Split: ...


class ClassifiedData(Data):
    """Data whose samples are of one class each."""

    target: ClassVar[str] = "classes"
    dealt: ClassVar[bool] = True

    content: LabelledContent

    @cached_property
    def samples_of(self) -> Mapping[str, int]:  # type: ignore[override]
        return {part: len(self.content.split.part(part)) for part in PARTS}

    @property
    def class_names(self) -> Sequence[str]:
        return self.content.class_names

    @abstractmethod
    def training_batches(
        self, batch_size: int, *, seed: int, parts: Sequence[str] = ("train",), answers: Answers | None = None
    ) -> EpochBatches:
        """As :meth:`Data.training_batches`; with the ``answers`` of a teacher, these are learned (:meth:`targets`)."""

    def labels(self, *parts: str) -> NDArray[np.int64]:
        """The class of each sample of a part, or of several."""
        return np.concatenate([self.content.labels[self.content.split.part(part)] for part in parts])

    def targets(self, parts: Sequence[str], answers: Answers | None) -> NDArray[Any]:
        """What is learned of the samples of some parts: their classes, or shares of classes where a teacher answered.

        The share of the true class is :data:`TRUE_SHARE` and that of the teacher's probabilities the rest.
        """
        labels = self.labels(*parts)
        if answers is None:
            return labels
        true = np.eye(len(self.class_names), dtype=np.float32)[labels]
        said = np.concatenate([answers.shares[part] for part in parts])
        return TRUE_SHARE * true + np.float32(1 - TRUE_SHARE) * said

    def further_inputs(self, count: int, *, seed: int) -> NDArray[Any] | None:
        """Inputs like those to train on, for a teacher to answer; none for kinds that cannot make any."""
        return None

    def names(self, part: str) -> Sequence[tuple[int, str]]:
        """The number in the data set of each sample of a part, and what it is called."""
        return [(int(index), self.content.names[index]) for index in self.content.split.part(part)]

    def describe(self) -> dict[str, Any]:
        counts = np.bincount(self.content.labels, minlength=len(self.class_names))
        return {
            self.samples: len(self.content.labels),
            "classes": list(self.class_names),
            "counts": counts.tolist(),
        }

    @classmethod
    def facts(cls, data: Mapping[str, Any]) -> list[tuple[str, str]]:
        counts = ", ".join(f"{name} ({count:,})" for name, count in zip(data["classes"], data["counts"], strict=True))
        return [("classes", f"{len(data['classes'])}: {counts}")]

    @classmethod
    def summary(cls, data: Mapping[str, Any]) -> str:
        return f"{sum(data['counts']):,} {cls.samples}, {len(data['classes'])} classes"


DATA: Registry[type[Data]] = Registry("kind of data", group="formwright.data", package="formwright.fitting.data")
