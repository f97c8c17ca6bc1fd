"""What a run writes down: plain dataclasses, each a part of ``metrics.json`` and of the report.

Times are seconds, sizes bytes, scores shares between 0 and 1. ``metrics.json`` is :class:`FitResult` as JSON; its
schema is versioned, and fields are only ever added.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

METRICS_SCHEMA = 1


@dataclass
class CurvePoint:
    """One evaluation of a candidate: after so many steps and seconds of its own training.

    ``loss`` is the training loss since the evaluation before, none where no step was taken.
    """

    step: int
    seconds: float
    loss: float | None
    validation_accuracy: float
    learning_rate: float


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
        status: ``waiting``, ``racing``, ``stopped`` (by the race), ``finished``, ``dropped`` (before training: it
            cannot meet the budget) or ``failed``.
        reason: why it was stopped, dropped or failed.
        parameters, macs: of one input.
        eager_latency: seconds for one input in PyTorch.
        onnx_latency: seconds for one input in ONNX Runtime, where it was measured.
        size: estimated bytes of the float32 file.
        step: seconds of a training step, measured before the race.
        curve: evaluations so far.
        score: latest validation accuracy.
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

    @property
    def score(self) -> float:
        return self.curve[-1].validation_accuracy if self.curve else 0.0

    @property
    def seconds(self) -> float:
        return self.curve[-1].seconds if self.curve else 0.0


@dataclass
class Variant:
    """An exported form of the model that was measured: one point of the Pareto picture.

    Attributes:
        name: such as ``trained, float32`` or ``pruned, int8``.
        trial: number of the trial that it comes from.
        precision: ``float32`` or ``int8``.
        file: the ONNX file, relative to the run's folder; empty if it was not kept.
        latency: median seconds for one input in ONNX Runtime; ``latency_low`` and ``latency_high`` the spread.
        size: bytes of the file.
        macs, parameters: of one input.
        validation_accuracy: of this very file.
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
    validation_accuracy: float
    violations: list[str] = field(default_factory=list)
    chosen: bool = False
    reason: str = ""


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
    """A trivial or plain competitor: majority class, logistic regression, a plain ResNet."""

    name: str
    test_accuracy: float
    seconds: float
    note: str = ""


@dataclass
class Mistake:
    """A test picture that the shipped model got wrong with much confidence."""

    file: str
    index: int
    true: str
    predicted: str
    probability: float


@dataclass
class Agreement:
    """The shipped file against the PyTorch model on the whole test part.

    ``same_class`` is the share of equal decisions of the float32 export, ``largest_difference`` the largest absolute
    difference of its scores; for an INT8 file ``accuracy_difference`` is test accuracy of INT8 minus float32.
    """

    same_class: float
    largest_difference: float
    accuracy_difference: float | None = None


@dataclass
class FitResult:
    """Everything that ``fit`` found out: the content of ``metrics.json``."""

    schema: int = METRICS_SCHEMA
    formwright: str = ""
    task: str = "image-classification"
    seed: int = 0
    #: budget: latency, size, macs, time; none where there is no limit
    budget: dict[str, float | None] = field(default_factory=dict)
    budget_met: bool = False
    violations: list[str] = field(default_factory=list)
    #: source, pictures (how many), classes (their names), counts (pictures of each), size (height and width), channels,
    #: train, validation and test (how many pictures each), notes (sentences)
    data: dict[str, Any] = field(default_factory=dict)
    #: processor, cores, threads, torch, onnxruntime
    machine: dict[str, Any] = field(default_factory=dict)
    model: str = ""
    trials: list[Trial] = field(default_factory=list)
    variants: list[Variant] = field(default_factory=list)
    shrink: list[ShrinkStep] = field(default_factory=list)
    baselines: list[Baseline] = field(default_factory=list)
    #: accuracy, accuracy_low, accuracy_high (95 %), balanced_accuracy, macro_f1, log_loss, calibration_error
    test: dict[str, float] = field(default_factory=dict)
    confusion: list[list[int]] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)
    agreement: Agreement | None = None
    #: seconds by stage: shortlist, race, train, shrink, ship; total is that of the whole run
    time: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def shipped(self) -> Variant:
        return next(variant for variant in self.variants if variant.chosen)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> FitResult:
        values = dict(values)
        values["trials"] = [trial_from_dict(value) for value in values["trials"]]
        for name, kind in (
            ("variants", Variant),
            ("shrink", ShrinkStep),
            ("baselines", Baseline),
            ("mistakes", Mistake),
        ):
            values[name] = [kind(**value) for value in values[name]]
        if values.get("agreement") is not None:
            values["agreement"] = Agreement(**values["agreement"])
        return FitResult(**values)


def trial_from_dict(values: Mapping[str, Any]) -> Trial:
    return Trial(**{**values, "curve": [CurvePoint(**point) for point in values.get("curve", [])]})
