"""The registry of compressors: what each needs, what it does to models, and what it says of it.

A compressor maps models to smaller models and says what it did as edits, which every saved model carries. Several
models may go in or come out (fusion, models that share a task), and changes of weights alone need no edits.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_type_hints

from pydantic import TypeAdapter, ValidationError
from torch import nn

from formwright.batch import Batch
from formwright.errors import UserError
from formwright.models import Network
from formwright.nn.specification import EditSpec
from formwright.objectives import Objective
from formwright.registry import Registry
from formwright.reporting import SILENT, Reporter

#: What a compressor may need beside the models, and what whoever lacks it is told to give.
NEEDS = {
    "inputs": "batches of data",
    "labels": "batches of labelled data",
    "training": "training batches and minutes to train in",
    "teacher": "a teacher",
    "latency table": "a table of measured latencies",
}
Need = Literal["inputs", "labels", "training", "teacher", "latency table"]


@dataclass
class Job:
    """What compressors are given beside the models.

    Attributes:
        batches: batches to look at, for scales and importance; ``labelled`` says whether their targets count.
        labelled: whether the targets of the batches are the true ones.
        objective: what a good answer is.
        metric: the score of a model on data that is not trained on, higher is better.
        train: trains a model in place to the teacher's or the data's answers for so many seconds, and returns it.
        teacher: a model whose answers are followed; the model before the first step, if unset.
        seconds: time that is left for all steps together, where somebody counts.
        latency: milliseconds by name of a measured operator, where a compressor goes by them.
        seed: decides whatever is drawn.
        reporter: hears how far it is.
    """

    batches: Sequence[Batch] | None = None
    labelled: bool = True
    objective: Objective | None = None
    metric: Callable[[nn.Module], float] | None = None
    train: Callable[[Network, nn.Module | None, float, int], Network] | None = None
    teacher: nn.Module | None = None
    seconds: float | None = None
    latency: Mapping[str, float] | None = None
    seed: int = 0
    reporter: Reporter = SILENT

    def has(self, need: Need) -> bool:
        """Whether the job can serve a need."""
        return {
            "inputs": self.batches is not None,
            "labels": self.batches is not None and self.labelled and self.objective is not None,
            "training": self.train is not None,
            "teacher": self.teacher is not None,
            "latency table": self.latency is not None,
        }[need]


@dataclass(frozen=True)
class Compressed:
    """What a step made.

    Attributes:
        models: the models, each with its edits in its specification.
        report: what was found and done, as plain data.
        edits: the edits of each model that this step added.
    """

    models: tuple[Network, ...]
    report: Mapping[str, Any] = field(default_factory=dict)
    edits: tuple[tuple[EditSpec, ...], ...] = ()

    @property
    def model(self) -> Network:
        """The only model.

        Raises:
            UserError: there are several.
        """
        if len(self.models) != 1:
            raise UserError(f"The step made {len(self.models)} models; they are in .models.")
        return self.models[0]


class Compressor(ABC):
    """A step of compression, registered in :data:`COMPRESSORS`; its constructor takes plain options.

    Class attributes:
        needs: what it cannot do without (:data:`NEEDS`).
        recovers: whether what it does costs accuracy that some training afterwards wins back.
        in_fit: whether the main job tries it, on the winner and with some training afterwards.
        title: what reports call it.
        label: what reports call a model that it made.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()
    recovers: ClassVar[bool] = False
    in_fit: ClassVar[bool] = False
    title: ClassVar[str] = ""
    label: ClassVar[str] = ""

    @classmethod
    def leaving(cls, share: float) -> Compressor:
        """The step that leaves ``share`` of a model's multiply-accumulates: how the main job asks for it."""
        raise UserError(f"{cls.__name__} cannot be asked to leave a share of the multiply-accumulates.")

    @abstractmethod
    def run(self, models: Sequence[Network], job: Job) -> Compressed:
        """Make smaller models; those that are given stay as they are.

        Raises:
            UserError: the models have nothing that could be compressed so, or a target cannot be reached.
        """


class Single(Compressor):
    """A compressor that treats each model by itself."""

    @abstractmethod
    def compress(self, model: Network, job: Job) -> tuple[Network, dict[str, Any]]:
        """One smaller model, and what there is to tell."""

    def run(self, models: Sequence[Network], job: Job) -> Compressed:
        made = [self.compress(model, job) for model in models]
        edits = tuple(
            new.specification.edits[len(old.specification.edits) :] for old, (new, _) in zip(models, made, strict=True)
        )
        reports = [report for _, report in made]
        return Compressed(tuple(m for m, _ in made), reports[0] if len(reports) == 1 else {"models": reports}, edits)


COMPRESSORS: Registry[type[Compressor]] = Registry("compressor", group="formwright.compressors")


def tried_in_fit() -> list[type[Compressor]]:
    """The compressors that the main job tries on its winner, by name."""
    return [COMPRESSORS[name] for name in COMPRESSORS if COMPRESSORS[name].in_fit]


@dataclass(frozen=True)
class Step:
    """A compressor by name, and its options: ``Step("prune", {"keep": 0.6})``."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> Compressor:
        """The compressor.

        Raises:
            UserError: there is none of this name, or an option is unknown, missing or out of range.
        """
        constructor = COMPRESSORS[self.name]
        accepted = inspect.signature(constructor).parameters
        unknown = [name for name in self.options if name not in accepted]
        if unknown:
            offered = ", ".join(accepted) or "none"
            raise UserError(f"The step {self.name!r} has no option {unknown[0]!r}; its options are: {offered}.")
        try:
            compressor = constructor(**self.options)
        except TypeError as error:
            self._check_types(constructor)
            raise UserError(f"The step {self.name!r} cannot be taken: {error}.") from None
        self._check_types(constructor)
        return compressor

    def _check_types(self, constructor: type[Compressor]) -> None:
        """Refuse options of another type than the constructor says; what files hold is nothing else yet."""
        types = get_type_hints(constructor.__init__)
        for name, value in self.options.items():
            try:
                TypeAdapter(types.get(name, Any)).validate_python(value, strict=True)
            except ValidationError as error:
                reason = error.errors()[0]["msg"].lower()
                raise UserError(f"The step {self.name!r} cannot be taken with {name}={value!r}: {reason}.") from None


def compress(
    models: Network | Sequence[Network],
    steps: Iterable[Step | str],
    data: Iterable[Batch] | None = None,
    *,
    objective: Objective | None = None,
    job: Job | None = None,
    seed: int = 0,
) -> Compressed:
    """Take the steps one after the other, each on what the one before made.

    >>> smaller = compress(model, [Step("prune", {"keep": 0.6}), Step("int8")], batches).model    # doctest: +SKIP
    >>> smaller.save_pretrained("smaller")                                                       # doctest: +SKIP

    Args:
        models: a model, or several; they are left as they are.
        steps: compressors of :data:`COMPRESSORS`, by name or with options.
        data: labelled batches like those of the training; some steps need none.
        objective: what a good answer is; cross entropy of classes if unset.
        job: more of what steps may need (a metric, training, a teacher); ``data`` and ``objective`` go into it.
        seed: decides whatever is drawn.

    Returns:
        The models of the last step, the edits of all steps, and under ``steps`` what each reported.

    Raises:
        UserError: a step is unknown, needs what is not there, or cannot do anything here.
    """
    from formwright.objectives import Classification

    models = [models] if isinstance(models, Network) else list(models)
    if not models:
        raise UserError("There is no model to compress; give at least one.")
    job = Job(seed=seed) if job is None else job
    if data is not None:
        job.batches = list(data)
    if objective is not None:
        job.objective = objective
    elif job.objective is None:
        job.objective = Classification()
    if job.teacher is None:
        job.teacher = models[0]
    taken = [step if isinstance(step, Step) else Step(step) for step in steps]
    built = [(step, step.build()) for step in taken]
    for step, compressor in built:
        missing = [NEEDS[need] for need in NEEDS if need in compressor.needs and not job.has(need)]
        if missing:
            raise UserError(f"The step {step.name!r} needs {' and '.join(missing)}; give that, or leave the step out.")
    reports = []
    made: Sequence[Network] = models
    edits: list[tuple[EditSpec, ...]] = [()] * len(models)
    for index, (step, compressor) in enumerate(built):
        job.reporter.progress(index / len(built), step.name)
        result = compressor.run(made, job)
        if len(result.models) == len(edits) == len(result.edits):
            edits = [(*before, *added) for before, added in zip(edits, result.edits, strict=True)]
        else:
            edits = [tuple(model.specification.edits) for model in result.models]
        made = result.models
        reports.append({"step": step.name, "options": dict(step.options), **result.report})
    return Compressed(tuple(made), {"steps": reports}, tuple(edits))
