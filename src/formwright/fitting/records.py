"""What a run writes down: plain dataclasses, each a part of ``metrics.json`` and of the report.

Times are seconds, sizes bytes. A ``score`` is the figure of the task's metric, or its negative where less is better,
so that more is always better. ``metrics.json`` is :class:`FitResult` as JSON; its schema is versioned, and within a
version fields are only ever added.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from formwright.errors import UserError
from formwright.measurement.budget import format_bytes, format_seconds

METRICS_SCHEMA = 2
#: The form that is an average of candidates.
ENSEMBLE = "ensemble"
#: Whether its members are asked about the mirror image too, among the facts of a run.
MIRRORED = "mirrored"


@dataclass
class CurvePoint:
    """One evaluation of a candidate on validation data: after so many steps and seconds of its own training.

    ``loss`` is the training loss since the evaluation before, none where no step was taken.
    """

    step: int
    seconds: float
    loss: float | None
    score: float
    learning_rate: float


@dataclass
class FoldScore:
    """What a candidate has by cross-validation: the mean score over ``deals`` times ``folds`` folds of the samples.

    ``loss`` is :meth:`~formwright.fitting.goal.Goal.loss` of the same answers, where the goal has one.
    """

    score: float
    samples: int
    folds: int
    deals: int = 1
    seconds: float = 0.0
    loss: float | None = None


@dataclass
class Trial:
    """A candidate: what it is, what it costs here, and how it did.

    Attributes:
        number: place in the order of proposal.
        name: what people call it, such as ``convformer 3 stages, width 48``.
        family: its family of models.
        proposal: the choices of the search space that it was built from.
        specification: the model as data.
        recipe: how it is trained.
        teacher: whether it misses the budget and is trained only for the others to learn from.
        fitted: whether it is a simple competitor, whose weights a solver finds at once.
        status: ``waiting``, ``racing``, ``stopped`` (by the race), ``finished``, ``dropped`` (before training: it
            cannot meet the budget, or was lost while it was measured) or ``failed``.
        reason: why it was stopped, dropped or failed.
        parameters, macs: of one input.
        eager_latency: seconds for one input in PyTorch.
        onnx_latency: seconds for one input in ONNX Runtime, where it was measured.
        size: estimated bytes of the float32 file.
        step: seconds of a training step, measured before the race.
        curve: evaluations so far.
        kept: which evaluation the weights are of that are kept, where a task keeps the best; otherwise the latest are.
        ended: at which step its training had come to its end, if the run was then given more time.
        folds: its score by cross-validation, where samples are few and there was time.
        score: on validation data, of the kept or of the latest weights.
    """

    number: int
    name: str
    family: str
    proposal: dict[str, Any]
    specification: dict[str, Any]
    recipe: dict[str, Any]
    teacher: bool = False
    status: str = "waiting"
    reason: str = ""
    parameters: int = 0
    macs: int = 0
    eager_latency: float = 0.0
    onnx_latency: float | None = None
    size: int = 0
    step: float = 0.0
    curve: list[CurvePoint] = field(default_factory=list)
    kept: int | None = None
    fitted: bool = False
    ended: int | None = None
    folds: FoldScore | None = None

    @property
    def score(self) -> float:
        if not self.curve:
            return -math.inf
        return self.curve[-1 if self.kept is None else self.kept].score

    @property
    def seconds(self) -> float:
        return self.curve[-1].seconds if self.curve else 0.0

    @property
    def title(self) -> str:
        """What it is called in a sentence, without its choices."""
        return self.name if "weights" in self.proposal else self.name.partition(",")[0]

    @property
    def label(self) -> str:
        """What its exported form is called, where a solver found its weights."""
        return f"classifier-{self.proposal['weights']}" if "weights" in self.proposal else self.family


@dataclass
class Variant:
    """An exported form of the model that was measured: one point of the Pareto picture.

    Attributes:
        name: such as ``trained, float32`` or ``pruned, int8``.
        form: the model that was exported: ``trained``, ``pruned``, ``ensemble``, or the label of a simple competitor;
            it is saved in a folder of this name.
        trial: number of the trial that it comes from.
        precision: ``float32`` or ``int8``.
        file: the ONNX file, relative to the run's folder; empty if it was not kept.
        latency: median seconds for one input in ONNX Runtime; ``latency_low`` and ``latency_high`` the spread.
        size: bytes of the file.
        macs, parameters: of one input.
        score: of this very file on validation data.
        least: the score less what chance explains of it, where samples are few (:meth:`Goal.least`).
        violations: how it misses the budget; empty if it meets it.
        chosen: whether it is the one that was shipped.
        reason: why it was chosen or not.
    """

    name: str
    trial: int
    precision: Literal["float32", "int8"]
    file: str
    latency: float
    latency_low: float
    latency_high: float
    size: int
    macs: int
    parameters: int
    score: float
    violations: list[str] = field(default_factory=list)
    chosen: bool = False
    reason: str = ""
    form: str = ""
    least: float | None = None


@dataclass
class ShrinkStep:
    """A transformation that was tried (or not, and why), and whether it paid."""

    name: str
    tried: bool
    kept: bool
    reason: str
    seconds: float = 0.0


@dataclass
class Baseline:
    """What stands beside the result, such as the majority class or a plain ResNet; ``score`` is on the test part."""

    name: str
    score: float
    seconds: float
    note: str = ""


@dataclass
class Agreement:
    """The shipped file against the PyTorch model on the whole test part.

    ``same_answer`` is the share of equal answers of the float32 export, ``largest_difference`` the largest absolute
    difference of its outputs; for an INT8 file ``score_difference`` is the test score of INT8 minus that of float32.
    """

    same_answer: float
    largest_difference: float
    score_difference: float | None = None


@dataclass(repr=False)
class FitResult:
    """Everything that ``fit`` found out: the content of ``metrics.json``."""

    schema: int = METRICS_SCHEMA
    formwright: str = ""
    task: str = "image-classification"
    #: name, key (of the figure in ``test``), lower_is_better
    metric: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    #: budget: latency, size, macs, time; none where there is no limit
    budget: dict[str, float | None] = field(default_factory=dict)
    budget_met: bool = False
    violations: list[str] = field(default_factory=list)
    #: source, options (of the task, as they were given), train, validation and test (how many samples each), notes
    #: (sentences), and what the task says of its data
    data: dict[str, Any] = field(default_factory=dict)
    #: processor, cores, threads, torch, onnxruntime
    machine: dict[str, Any] = field(default_factory=dict)
    model: str = ""
    trials: list[Trial] = field(default_factory=list)
    variants: list[Variant] = field(default_factory=list)
    shrink: list[ShrinkStep] = field(default_factory=list)
    baselines: list[Baseline] = field(default_factory=list)
    #: figures of the shipped file on the test part; that of the metric under its key
    test: dict[str, float] = field(default_factory=dict)
    #: what else the task found out about the shipped file: a confusion matrix, mistakes, samples
    details: dict[str, Any] = field(default_factory=dict)
    agreement: Agreement | None = None
    #: the file that the figures of ``test`` are of: ``model.onnx``, or ``scored.onnx`` where ``model.onnx`` has learned
    #: the test part too; and the parts that ``model.onnx`` has learned
    scored: str = "model.onnx"
    learned: list[str] = field(default_factory=lambda: ["train"])
    #: seconds by stage: shortlist, race, train, shrink, refit, ship; total is that of the whole run
    time: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        #: where the run lies; not written down, so that its folder may be moved
        self.folder = ""

    def __repr__(self) -> str:
        metric, place = self.metric, f", in {self.folder}" if self.folder else ""
        if not self.variants:
            return f"FitResult({self.task}{place})"
        found, shipped = self.test.get(metric.get("key", ""), math.nan), self.shipped
        met = "meets the budget" if self.budget_met else f"misses the budget ({'; '.join(self.violations)})"
        return (
            f"FitResult({self.task}: {self.model}; test {metric.get('name', 'score')} {found:.4g}, "
            f"{format_seconds(shipped.latency)}, {format_bytes(shipped.size)}, {met}{place})"
        )

    @property
    def shipped(self) -> Variant:
        return next(variant for variant in self.variants if variant.chosen)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> FitResult:
        """The result that :meth:`to_dict` wrote.

        Raises:
            UserError: it has another schema.
        """
        values = dict(values)
        if values.get("schema") != METRICS_SCHEMA:
            raise UserError(
                f"These results have schema {values.get('schema')!r}, and this program reads {METRICS_SCHEMA}; read "
                "them with the version that wrote them, or run fit again."
            )
        values["trials"] = [trial_from_dict(value) for value in values["trials"]]
        values["variants"] = [variant_from_dict(value) for value in values["variants"]]
        values["shrink"] = [ShrinkStep(**value) for value in values["shrink"]]
        values["baselines"] = [Baseline(**_scored(value)) for value in values["baselines"]]
        if values.get("agreement") is not None:
            values["agreement"] = Agreement(**values["agreement"])
        return FitResult(**values)


def trial_from_dict(values: Mapping[str, Any]) -> Trial:
    folds = values.get("folds")
    return Trial(
        **{
            **values,
            "curve": [CurvePoint(**_scored(point)) for point in values.get("curve", [])],
            "folds": None if folds is None else FoldScore(**folds),
        }
    )


def variant_from_dict(values: Mapping[str, Any]) -> Variant:
    """A variant, also one that was written when its form stood in its name alone."""
    return Variant(**{"form": values["name"].rpartition(",")[0], **_scored(values)})


def _scored(values: Mapping[str, Any]) -> dict[str, Any]:
    """A record whose score may be undefined, for which JSON has null."""
    return {**values, "score": math.nan if values["score"] is None else values["score"]}
