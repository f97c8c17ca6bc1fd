"""A run that never was, for the tests of what is written about runs: plausible figures from a seed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from formwright.candidates import CANDIDATES
from formwright.fitting.records import (
    Agreement,
    Baseline,
    CurvePoint,
    FitResult,
    ShrinkStep,
    Trial,
    Variant,
)
from formwright.open_choices import Categorical
from formwright.shapes import Shape

FAMILIES = ("convformer", "cct", "convnext", "poolformer", "efficientvit", "cvt", "iformer", "resnet")
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def sample_result(
    classes: tuple[str, ...] = CLASSES,
    *,
    seed: int = 0,
    candidates: int = 18,
    best: float = 0.843,
    test_pictures: int = 10_000,
    mistakes: int = 12,
) -> FitResult:
    rng = np.random.default_rng(seed)
    trials = [_trial(number, rng, best) for number in range(candidates)]
    winner = max(trials, key=lambda trial: trial.score)
    confusion = _confusion(rng, len(classes), test_pictures, best - 0.006)
    accuracy = float(np.trace(confusion) / confusion.sum())
    spread = 1.96 * math.sqrt(accuracy * (1 - accuracy) / test_pictures)
    pairs = [(true, guess) for true, guess in zip(*np.nonzero(confusion), strict=True) if true != guess]
    chosen = [pairs[place] for place in rng.choice(len(pairs), min(mistakes, len(pairs)), replace=False)]
    return FitResult(
        formwright="0.1.0",
        seed=seed,
        budget={"latency": 0.002, "size": 1_000_000, "macs": None, "time": 1200.0},
        budget_met=True,
        data={
            "source": "photos/cifar-10",
            "pictures": 60_000,
            "classes": list(classes),
            "counts": [60_000 // len(classes)] * len(classes),
            "size": [32, 32],
            "channels": 3,
            "train": 45_000,
            "validation": 5_000,
            "test": test_pictures,
            "notes": [
                "Pictures: 32 x 32 pixels (the size of every picture), RGB.",
                "412 pictures are copies of another; copies are kept within one part.",
            ],
        },
        machine={
            "processor": "Example CPU @ 2.80GHz",
            "cores": 2,
            "threads": 2,
            "torch": "2.13.0",
            "onnxruntime": "1.23.0",
        },
        model=f"{winner.name} (distilled, int8)",
        trials=trials,
        variants=_variants(winner),
        shrink=_shrink_steps(),
        baselines=[
            Baseline("majority class", 1 / len(classes), 0.01, "always answers the most frequent class"),
            Baseline("logistic regression", 0.392, 21.0, "on raw pixels"),
            Baseline(
                "plain ResNet", accuracy - 0.041, 1180.0, "resnet-20 shape with the same minutes, float32, 3.1 ms"
            ),
        ],
        test={
            "accuracy": accuracy,
            "accuracy_low": accuracy - spread,
            "accuracy_high": accuracy + spread,
            "balanced_accuracy": accuracy - 0.001,
            "macro_f1": accuracy - 0.002,
            "log_loss": 0.512,
            "calibration_error": 0.021,
        },
        details={
            "confusion": confusion.tolist(),
            "mistakes": [
                {
                    "file": f"{classes[t]}/{classes[t]}_{i:04d}.png",
                    "index": i,
                    "true": classes[t],
                    "predicted": classes[g],
                    "probability": 0.999 - 0.004 * i,
                }
                for i, (t, g) in enumerate(chosen)
            ],
        },
        agreement=Agreement(1.0, 3.8e-6, -0.0021),
        time={"shortlist": 41.0, "race": 455.0, "train": 420.0, "shrink": 196.0, "ship": 38.0, "total": 1165.0},
        notes=["bfloat16 was not used: a step in it took 1.31 times as long on this machine."],
    )


def _trial(number: int, rng: np.random.Generator, best: float) -> Trial:
    family = FAMILIES[number % len(FAMILIES)]
    width = int(rng.choice([32, 48, 64, 96]))
    parameters = int(width**2 * rng.uniform(60, 160))
    trial = Trial(
        number,
        f"{family} {int(rng.integers(2, 4))} stages, width {width}",
        family,
        proposal={"width": width},
        specification={},
        recipe={"learning_rate": 2e-3},
        parameters=parameters,
        macs=int(parameters * rng.uniform(40, 90)),
        size=parameters * 4 + 24_000,
    )
    trial.eager_latency = 4e-4 + trial.macs / 1.6e10
    trial.onnx_latency = 0.45 * trial.eager_latency if number % 4 else None
    if number % 6 == 5:
        trial.status, trial.reason = "dropped", "latency 6.1 ms would be over 2 ms even after compression"
        return trial
    if number == 7:
        trial.status, trial.reason = "failed", "the loss became infinite at step 212"
        return trial
    rung = 0 if number % 2 else 1 if number % 3 else 3
    trial.status = "finished" if rung == 3 else "stopped"
    trial.reason = "" if rung == 3 else f"weaker than the best half after {15 * 3**rung} s"
    final = best - abs(rng.normal(0, 0.03)) - 0.02 * (number != 6)
    end = (20, 55, 160, 470)[rung] * rng.uniform(0.9, 1.1)
    for step, seconds in enumerate(np.linspace(6, end, 4 + 5 * rung)):
        accuracy = final * (1 - 0.72 * math.exp(-seconds / 45)) + rng.normal(0, 0.004)
        accuracy = min(max(accuracy, 0.0), 1.0)
        trial.curve.append(CurvePoint(40 * step, float(seconds), 2.3 * (1 - accuracy), accuracy, 2e-3))
    return trial


def _variants(winner: Trial) -> list[Variant]:
    latency, size, score = winner.eager_latency * 0.45, winner.size, winner.score

    def variant(name: str, precision: str, fast: float, small: float, loss: float, **rest: object) -> Variant:
        return Variant(
            name, winner.number, precision, f"exports/{name.replace(', ', '-')}.onnx",
            latency * fast, latency * fast * 0.96, latency * fast * 1.09, int(size * small),
            int(winner.macs * small), int(winner.parameters * small), score - loss, **rest,
        )  # fmt: skip

    return [
        variant("trained, float32", "float32", 1, 1, 0, violations=["size 1.1 MB is over 1 MB"], reason="too large"),
        variant("distilled, float32", "float32", 1, 1, -0.006, violations=["size 1.1 MB is over 1 MB"]),
        variant("pruned, float32", "float32", 0.8, 0.72, 0.001, reason="another form scores more"),
        variant("distilled, int8", "int8", 0.62, 0.27, -0.003, chosen=True, reason="shipped: the most accurate"),
        variant("pruned, int8", "int8", 0.55, 0.2, 0.006, reason="another form scores more"),
    ]


def _shrink_steps() -> list[ShrinkStep]:
    return [
        ShrinkStep("fold norms into convolutions", True, True, "1.21 times as fast, same answers", 1.4),
        ShrinkStep("distil from the ensemble's best", True, True, "validation accuracy rises by 0.6 points", 118.0),
        ShrinkStep("prune heads and hidden channels", True, False, "loses 0.7 points for 20 % of the time", 61.0),
        ShrinkStep("static int8", True, True, "1.6 times as fast, loses 0.3 points, a quarter of the size", 15.0),
        ShrinkStep("merge tokens", False, False, "the model has no attention over tokens that could be merged"),
    ]


def _confusion(rng: np.random.Generator, classes: int, pictures: int, accuracy: float) -> NDArray[np.int64]:
    each = pictures // classes
    liking = rng.gamma(0.25, size=(classes, classes)) + 1e-3
    np.fill_diagonal(liking, 0)
    liking *= (1 - accuracy) / liking.sum(axis=1, keepdims=True)
    np.fill_diagonal(liking, accuracy)
    return np.stack([rng.multinomial(each, row) for row in liking]).astype(np.int64)


def sample_pictures(
    result: FitResult, height: int = 32, width: int = 32, channels: int = 3
) -> dict[int, NDArray[np.uint8]]:
    """Coloured waves, one for each mistake."""
    y, x = np.mgrid[0:height, 0:width]
    return {
        mistake["index"]: np.stack(
            [127 + 120 * np.sin((x * (1 + c) + y * mistake["index"]) / (4 + c)) for c in range(channels)], axis=-1
        ).astype(np.uint8)
        for mistake in result.details["mistakes"]
    }


def few_candidates(patch, task: str, families: Sequence[str], shape: type[Shape], widths: tuple[int, ...]) -> None:
    """Lets runs of a task measure and race these families and widths alone."""
    import formwright.models  # noqa: F401  (its families are the candidates)

    patch.setitem(CANDIDATES, task, {name: CANDIDATES[task][name] for name in families})
    patch.setattr(shape, "sizes", {**shape.sizes, "width": Categorical(widths)})
