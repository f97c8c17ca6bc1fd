"""What is to be said of the model that is shipped beside its figures, in sentences."""

from __future__ import annotations

from formwright.fitting.records import ENSEMBLE, FitResult
from formwright.fitting.task import TaskType


def verdict(result: FitResult, task: TaskType) -> list[str]:
    """What won, where that is no single network, and what the files have learned."""
    shipped, samples, sentences = result.shipped, task.words.samples, []
    fitted = {trial.number: trial.title for trial in result.trials if trial.fitted}
    chosen = next((trial for trial in result.trials if trial.number == shipped.trial), None)
    folds = None if chosen is None or shipped.form == ENSEMBLE else chosen.folds
    if shipped.form == ENSEMBLE:
        sentences.append(f"It is an average of answers: {result.model.rpartition(' (')[0]}.")
    elif shipped.trial in fitted and "weights" not in result.details:  # which tell of several
        name = fitted[shipped.trial]
        networks = [one for one in result.variants if one.trial not in fitted and not one.violations]
        close = any(one.score > shipped.score for one in networks)
        chance = "by more than chance" if folds else "by more than what counts as equal"
        sentences.append(
            f"{name[0].upper()}{name[1:]} was the best within the budget; no network beat it on the validation "
            f"{samples}{f' {chance}' if close or folds else ''}."
        )
    if folds is not None:
        metric = task.metric_of(result.metric)
        times = f", dealt {folds.deals} times" if folds.deals > 1 else ""
        sentences.append(
            f"It was chosen by its {metric.name} in {folds.folds} folds of the {folds.samples:,} {samples} to train "
            f"and to validate{times}: {metric.text(folds.score)} on average."
        )
    if result.scored != "model.onnx":
        sentences.append(
            f"The figures are those of {result.scored}, which learned the training and the validation part; model.onnx "
            f"then learned all {samples}, the test part too, and cannot be scored on it."
        )
    elif "val" in result.learned:
        sentences.append(
            "It learned the training and the validation part together, after everything was chosen; scores on the "
            "validation part are from before."
        )
    return [*sentences, *result.details.get("told", ())]
