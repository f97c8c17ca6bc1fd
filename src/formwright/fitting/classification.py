"""What every classification shares, whatever is classified: accuracy, cross entropy, mistakes, confusions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import nn

from formwright.fitting.metric import ACCURACY, Metric, percent
from formwright.fitting.mistakes import confusion
from formwright.fitting.records import Baseline, FitResult
from formwright.fitting.task import Findings, Page, Run, Task
from formwright.metrics.baselines import Baseline as Answers
from formwright.metrics.classification import classification_scores, softmax
from formwright.objectives import Classification, Distillation, Objective
from formwright.training.recipe import Recipe

MOST_MISTAKES = 12

FIGURES = {
    "accuracy": ("accuracy", "share of {samples} whose class is right"),
    "balanced_accuracy": ("balanced accuracy", "the mean over classes, so that rare classes count as much"),
    "macro_f1": ("macro F1", "mean over classes of the balance between finding a class and not crying wolf"),
    "log_loss": ("log loss", "0 is perfect; sure and wrong costs most"),
    "calibration_error": ("calibration error", "how far stated probabilities are from how often they come true"),
}


class ClassificationTask(Task):
    """Each sample is of one class.

    ``part_labels`` and ``part_names`` give the classes and the names of the samples of a part, in order.
    """

    metric: ClassVar[Metric] = ACCURACY
    title: ClassVar[str] = "Where it errs"
    template: ClassVar[str] = "classification.html.j2"

    class_names: Sequence[str]

    @abstractmethod
    def part_labels(self, part: str) -> NDArray[np.int64]:
        """The class of each sample of a part."""

    @abstractmethod
    def part_names(self, part: str) -> Sequence[tuple[int, str]]:
        """The number in the data set of each sample of a part, and what it is called."""

    def objective(self, recipe: Recipe | None = None) -> Objective:
        return Classification(0.0 if recipe is None else recipe.label_smoothing)

    def distilled(self, recipe: Recipe, teacher: nn.Module) -> Objective:
        return Distillation(teacher, self.objective(recipe), weight=0.5)

    def counted(self, outputs: NDArray[np.float32], targets: NDArray[Any]) -> tuple[float, float]:
        return float((outputs.argmax(1) == targets).sum()), float(len(targets))

    def examine(self, run: Run, model: nn.Module) -> Findings:
        probabilities = softmax(np.concatenate([run(batch.inputs) for batch in self.evaluation_batches("test")]))
        labels = self.part_labels("test")
        scores = classification_scores(probabilities, labels)
        return Findings(
            test={
                "accuracy": scores.accuracy,
                "accuracy_low": scores.accuracy_interval[0],
                "accuracy_high": scores.accuracy_interval[1],
                "balanced_accuracy": scores.balanced_accuracy,
                "macro_f1": scores.macro_f1,
                "log_loss": scores.log_loss,
                "calibration_error": scores.calibration_error,
            },
            details={"confusion": scores.confusion, "mistakes": self.worst_mistakes(probabilities, labels)},
        )

    def worst_mistakes(self, probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> list[dict[str, Any]]:
        """The wrong answers on the test part that the model was surest of."""
        predicted, sure = probabilities.argmax(1), probabilities.max(1)
        wrong = np.flatnonzero(predicted != labels)
        names = self.part_names("test")
        return [
            {
                "file": names[row][1],
                "index": names[row][0],
                "true": self.class_names[labels[row]],
                "predicted": self.class_names[predicted[row]],
                "probability": float(sure[row]),
            }
            for row in wrong[np.argsort(-sure[wrong], kind="stable")][:MOST_MISTAKES]
        ]

    def scored(self, answers: Answers) -> Baseline:
        """A baseline's answers on the test part as the record of a run."""
        accuracy = float((answers.probabilities.argmax(1) == self.part_labels("test")).mean())
        return Baseline(answers.name, accuracy, answers.seconds, answers.note)

    def describe_classes(self) -> dict[str, Any]:
        """Names and counts, for :meth:`describe`."""
        every = np.concatenate([self.part_labels(part) for part in ("train", "val", "test")])
        return {
            "classes": list(self.class_names),
            "counts": np.bincount(every, minlength=len(self.class_names)).tolist(),
        }

    @classmethod
    def page(cls, result: FitResult, attachments: Mapping[int, Any]) -> Page:
        test, data, samples = result.test, result.data, cls.words.samples
        shown = [
            (title, meaning.format(samples=samples), f"{test[key]:.3f}" if key == "log_loss" else percent(test[key]))
            for key, (title, meaning) in FIGURES.items()
            if key in test
        ]
        counts = ", ".join(f"{name} ({count:,})" for name, count in zip(data["classes"], data["counts"], strict=True))
        total = sum(data["counts"])
        return Page(
            answer=[("It is right about", False), (percent(test["accuracy"]), True), (f"of the test {samples}", False)],
            asked=f"{total:,} {samples}, {len(data['classes'])} classes",
            figures=shown,
            facts=[*cls.data_facts(data), ("classes", f"{len(data['classes'])}: {counts}")],
            title=cls.title,
            template=cls.template,
            content={
                "confusion": confusion(result),
                "mistakes": [
                    (mistake, cls.shown_mistake(attachments.get(mistake["index"])))
                    for mistake in result.details.get("mistakes", [])
                ],
            },
        )

    @classmethod
    @abstractmethod
    def data_facts(cls, data: Mapping[str, Any]) -> list[tuple[str, str]]:
        """What the report says of the data before its parts and classes: name, text."""

    @classmethod
    def shown_mistake(cls, attachment: Any) -> Any:
        """What the template shows of a mistaken sample."""
        return attachment
