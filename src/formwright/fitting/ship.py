"""The result: the chosen file, its scores on the test part, proof that it equals the model, and the report."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from formwright.data.batches import evaluation_batches
from formwright.deployment.preprocessing import Preprocessing
from formwright.deployment.runtime import OnnxModel
from formwright.files import atomic_path, write_json
from formwright.fitting.records import Agreement, Baseline, FitResult, Mistake, Variant
from formwright.fitting.session import Session
from formwright.metrics.baselines import logistic_regression, majority_class
from formwright.metrics.classification import classification_scores, softmax
from formwright.models import Model
from formwright.training.evaluation import predict_scores

MISTAKES = 12


def trivial_baselines(session: Session, seconds: float) -> None:
    """Majority class and logistic regression, scored on the test part once, at the end like everything else."""
    data, state = session.data, session.folder.state
    train, test = data.split.train, data.split.test
    made = [
        majority_class(data.labels[train], len(test), data.classes),
        logistic_regression(
            data.images[train], data.labels[train], data.images[test], data.classes, seconds=seconds, seed=session.seed
        ),
    ]
    names = {"majority class", "logistic regression"}
    state.baselines = [baseline for baseline in state.baselines if baseline.name not in names]
    for baseline in made:
        accuracy = float((baseline.probabilities.argmax(1) == data.labels[test]).mean())
        state.baselines.append(Baseline(baseline.name, accuracy, baseline.seconds, baseline.note))
    session.save()


def copy_file(source: Path, target: Path) -> None:
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)


def ship(session: Session, model: Model, chosen: Variant, float_variant: Variant) -> FitResult:
    """Write the chosen model, score it on the test part, compare it with PyTorch, and write metrics and report."""
    root, state, data = session.folder.root, session.folder.state, session.data
    model.save_pretrained(root)
    copy_file(root / chosen.file, root / "model.onnx")
    Preprocessing(
        size=data.size, channels=3 if data.channels == 3 else 1, mean=data.mean, std=data.std, labels=data.class_names
    ).save(root)
    eager, labels = predict_scores(model, evaluation_batches(data, "test"))
    exported = _scores(root / float_variant.file, session)
    agreement = Agreement(
        same_class=float((eager.argmax(1) == exported.argmax(1)).mean()),
        largest_difference=float(np.abs(eager - exported).max()),
    )
    shipped = exported
    if chosen.precision == "int8":
        shipped = _scores(root / "model.onnx", session)
        right = [float((scores.argmax(1) == labels).mean()) for scores in (shipped, exported)]
        agreement.accuracy_difference = right[0] - right[1]
    probabilities = softmax(shipped)
    scores = classification_scores(probabilities, labels)
    mistakes = worst_mistakes(session, probabilities, labels)
    result = FitResult(
        formwright=_version(),
        seed=session.seed,
        budget={
            "latency": session.budget.latency,
            "size": session.budget.size,
            "macs": session.budget.macs,
            "time": session.budget.time,
        },
        budget_met=not chosen.violations,
        violations=list(chosen.violations),
        data=describe_data(session),
        machine=describe_machine(session.threads),
        model=_model_name(session, chosen),
        trials=state.trials,
        variants=state.variants,
        shrink=state.shrink,
        baselines=state.baselines,
        test={
            "accuracy": scores.accuracy,
            "accuracy_low": scores.accuracy_interval[0],
            "accuracy_high": scores.accuracy_interval[1],
            "balanced_accuracy": scores.balanced_accuracy,
            "macro_f1": scores.macro_f1,
            "log_loss": scores.log_loss,
            "calibration_error": scores.calibration_error,
        },
        confusion=scores.confusion,
        mistakes=mistakes,
        agreement=agreement,
        notes=state.notes,
    )
    return result


def write_result(session: Session, result: FitResult) -> None:
    """Write ``metrics.json`` and ``report.html``; the time is counted up to here."""
    from formwright.fitting.report import write_report

    root, data = session.folder.root, session.data
    result.time = {**session.clock.stages, "total": session.clock.spent}
    pictures = {mistake.index: data.images[mistake.index] for mistake in result.mistakes}
    write_report(result, root / "report.html", pictures=pictures)
    write_json(root / "metrics.json", result.to_dict())


def _scores(path: Path, session: Session) -> NDArray[np.float32]:
    run = OnnxModel(path, threads=session.threads)
    batches = evaluation_batches(session.data, "test")
    return np.concatenate([run(np.ascontiguousarray(batch.inputs.numpy())) for batch in batches])


def worst_mistakes(session: Session, probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> list[Mistake]:
    """The wrong answers that the model was surest of."""
    predicted = probabilities.argmax(1)
    sure = probabilities.max(1)
    wrong = np.flatnonzero(predicted != labels)
    names, data = session.data.class_names, session.data
    return [
        Mistake(
            file=data.files[data.split.test[row]],
            index=int(data.split.test[row]),
            true=names[labels[row]],
            predicted=names[predicted[row]],
            probability=float(sure[row]),
        )
        for row in wrong[np.argsort(-sure[wrong], kind="stable")][:MISTAKES]
    ]


def describe_data(session: Session) -> dict[str, Any]:
    data = session.data
    return {
        "source": data.source,
        "pictures": len(data.labels),
        "classes": list(data.class_names),
        "counts": np.bincount(data.labels, minlength=data.classes).tolist(),
        "size": list(data.size),
        "channels": data.channels,
        "train": len(data.split.train),
        "validation": len(data.split.val),
        "test": len(data.split.test),
        "notes": list(data.notes),
    }


def describe_machine(threads: int) -> dict[str, Any]:
    import onnxruntime

    return {
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "threads": threads,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
    }


def processor_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown processor"


def _model_name(session: Session, chosen: Variant) -> str:
    trial = next(trial for trial in session.folder.state.trials if trial.number == chosen.trial)
    return f"{trial.name} ({chosen.name})"


def _version() -> str:
    from formwright import __version__

    return __version__
