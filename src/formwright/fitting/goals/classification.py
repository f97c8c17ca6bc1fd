"""Classification, whatever is classified: accuracy, cross entropy, mistakes, confusions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from formwright.errors import UserError
from formwright.fitting.confusion import confusion
from formwright.fitting.goal import GOALS, Findings, Goal, Page, Run
from formwright.fitting.kind import PARTS, ClassifiedData, Data, Option
from formwright.fitting.metric import ACCURACY, BALANCED_ACCURACY, Metric, percent
from formwright.fitting.records import Baseline, FitResult
from formwright.fitting.shown import Shown
from formwright.metrics.classification import classification_scores, softmax

if TYPE_CHECKING:
    from torch import nn

    from formwright.objectives import Objective
    from formwright.training.recipe import Recipe

MOST_MISTAKES = 12

FIGURES = {
    "accuracy": ("accuracy", "share of {samples} whose class is right"),
    "balanced_accuracy": ("balanced accuracy", "the mean over classes, so that rare classes count as much"),
    "macro_f1": ("macro F1", "mean over classes of the harmonic mean of precision and recall"),
    "log_loss": ("log loss", "0 is perfect; sure and wrong costs most"),
    "calibration_error": ("calibration error", "how far stated probabilities are from how often they come true"),
}


@GOALS.register("classification")
class ClassificationGoal(Goal[ClassifiedData]):
    """The class of each sample."""

    name: ClassVar[str] = "classification"
    target: ClassVar[str] = "classes"
    metric: Metric = ACCURACY
    model: ClassVar[str] = "a classifier of {samples}"
    answer: ClassVar[str] = "the class of {asked} and its probability"
    figure: ClassVar[str] = "Share of the test {samples} that each one gets right"
    title: ClassVar[str] = "Where it errs"
    template: ClassVar[str] = "classification.html.j2"
    averages: ClassVar[bool] = True
    metrics: ClassVar[Sequence[Metric]] = (ACCURACY, BALANCED_ACCURACY)
    options: ClassVar[Mapping[str, Option]] = {
        "metric": Option(
            "what candidates are compared by: accuracy, or balanced-accuracy, for which each class counts alike, in "
            "learning too"
        )
    }

    def __init__(self, data: ClassifiedData, metric: str | None = None) -> None:
        super().__init__(data)
        named = {one.key.replace("_", "-"): one for one in self.metrics}
        if metric is not None:
            if metric.replace("_", "-") not in named:
                raise UserError(f"The metric is one of {' and '.join(named)} (--metric), got {metric!r}.")
            self.metric = named[metric.replace("_", "-")]

    @cached_property
    def weights(self) -> NDArray[np.float64] | None:
        """How much a sample of each class counts, 1 on average, where classes count alike; none where samples do."""
        if self.metric is not BALANCED_ACCURACY:
            return None
        counts = np.bincount(self.data.labels(*PARTS), minlength=len(self.data.class_names))
        return np.asarray(counts.sum() / (len(counts) * np.maximum(counts, 1)))

    def objective(self, recipe: Recipe | None = None) -> Objective:
        from formwright.objectives import Classification

        weights = None if self.weights is None else self.weights.tolist()
        return Classification(0.0 if recipe is None else recipe.label_smoothing, weights)

    def distilled(self, recipe: Recipe, teacher: nn.Module) -> Objective:
        from formwright.objectives import Distillation

        return Distillation(teacher, self.objective(recipe), weight=0.5)

    def check_outputs(self, outputs: Any) -> None:
        classes = len(self.data.class_names)
        if outputs.shape[-1] != classes:
            raise UserError(f"it gives {outputs.shape[-1]} scores, and the data has {classes} classes.")

    def counted(self, outputs: NDArray[np.float32], targets: NDArray[Any]) -> tuple[float, float]:
        right = (outputs.argmax(1) == targets).astype(np.float64)
        if self.weights is not None:
            right *= self.weights[targets]
        return float(right.sum()), float(len(targets))

    def loss(self, outputs: NDArray[np.float32], targets: NDArray[Any]) -> float | None:
        right = softmax(outputs)[np.arange(len(targets)), targets]
        return float(-np.log(np.maximum(right, 1e-12)).mean())

    def score(self, run: Run, part: str, *, most: int | None = None) -> float:
        if self.metric is not BALANCED_ACCURACY:
            return super().score(run, part, most=most)
        batches = [
            (run(batch.inputs), batch.targets.numpy()) for batch in self.data.evaluation_batches(part, most=most)
        ]
        outputs, labels = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
        return self.scored(outputs, labels)

    def scored(self, outputs: NDArray[np.float32], targets: NDArray[Any]) -> float:
        if self.metric is not BALANCED_ACCURACY:
            return super().scored(outputs, targets)
        right = outputs.argmax(1) == targets
        return float(np.mean([right[targets == one].mean() for one in np.unique(targets)]))

    def examine(self, run: Run, model: nn.Module) -> Findings:
        probabilities = softmax(np.concatenate([run(batch.inputs) for batch in self.data.evaluation_batches("test")]))
        labels = self.data.labels("test")
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
            details={"confusion": scores.confusion, "mistakes": self._worst_mistakes(probabilities, labels)},
        )

    def _worst_mistakes(self, probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> list[dict[str, Any]]:
        """The wrong answers on the test part that the model was surest of."""
        predicted, sure = probabilities.argmax(1), probabilities.max(1)
        wrong = np.flatnonzero(predicted != labels)
        names, classes = self.data.names("test"), self.data.class_names
        return [
            {
                "file": names[row][1],
                "index": names[row][0],
                "true": classes[labels[row]],
                "predicted": classes[predicted[row]],
                "probability": float(sure[row]),
            }
            for row in wrong[np.argsort(-sure[wrong], kind="stable")][:MOST_MISTAKES]
        ]

    def baselines(self, *, seconds: float, seed: int) -> list[Baseline]:
        train, test = self.data.labels("train"), self.data.labels("test")
        most = int(np.bincount(train).argmax())
        score = float((test == most).mean())
        if self.metric is BALANCED_ACCURACY:
            score = float(most in test) / len(np.unique(test))
        return [Baseline("majority class", score, 0.0, "always answers the largest class")]

    def attachments(self, details: Mapping[str, Any]) -> dict[int, Shown | None]:
        return {mistake["index"]: self.data.show(mistake["index"]) for mistake in details["mistakes"]}

    @classmethod
    def page(cls, result: FitResult, data: type[Data], attachments: Mapping[int, Shown | None]) -> Page:
        test = result.test
        return Page(
            answer=f"{percent(test['accuracy'])} of the test {data.samples} are classified correctly",
            figures=[
                (
                    title,
                    meaning.format(samples=data.samples),
                    f"{test[key]:.3f}" if key == "log_loss" else percent(test[key]),
                )
                for key, (title, meaning) in FIGURES.items()
                if key in test
            ],
            content={
                "confusion": confusion(result),
                "mistakes": [
                    (mistake, attachments.get(mistake["index"])) for mistake in result.details.get("mistakes", [])
                ],
            },
        )
