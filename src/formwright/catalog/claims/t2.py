"""Claims of t2: sizes, the authors' outputs, and what it makes of synthetic transients beside a plain peer."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Sequence

import numpy as np
import torch

from formwright.catalog.claim import Claim, ClaimResult
from formwright.catalog.experiments.transients import (
    STEPS,
    TEST_CURVES,
    TRAIN_CURVES,
    logistic_regression,
    probabilities,
    train_on,
    transients,
)
from formwright.catalog.figures import parameter_claims
from formwright.catalog.reference import FLOAT32_TOLERANCE, images, reference_figures, reference_state, sample
from formwright.data.light_curves import append_features
from formwright.metrics.classification import classification_scores
from formwright.metrics.ranking import balanced_log_loss, ranking_scores
from formwright.models import Network, create_model, load_checkpoint
from formwright.reporting import SILENT, Reporter, Share

SEEDS = (0, 1, 2)


@functools.cache
def trained_t2(features: bool, seed: int) -> Network:
    """t2 after its training on the synthetic transients, with or without the redshift of the host."""
    data = transients()
    torch.manual_seed(seed)
    model = create_model("t2_plasticc_z" if features else "t2_plasticc", classes=len(data.classes))
    return train_on(model, data.series(features=features)[0], data.train_labels, seed=seed)


def _scores(features: bool, reporter: Reporter = SILENT) -> list[dict[str, float]]:
    data = transients()
    found = []
    for index, seed in enumerate(SEEDS):
        reporter.progress(index / len(SEEDS), f"{'with' if features else 'without'} redshift, seed {seed}")
        likely = probabilities(trained_t2(features, seed), data.series(features=features)[1])
        ranking = ranking_scores(likely, data.test_labels)
        found.append(
            {
                "accuracy": classification_scores(likely, data.test_labels).accuracy,
                "log loss": balanced_log_loss(likely, data.test_labels),
                "ROC-AUC": ranking.micro_roc_auc,
                "average precision": ranking.micro_average_precision,
            }
        )
    return found


def _told(scores: Sequence[dict[str, float]], name: str) -> str:
    values = [each[name] for each in scores]
    return f"{name} {statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def _conditions() -> str:
    return (
        f"{len(transients().classes)} classes of synthetic light curves on a grid of Gaussian processes, "
        f"{TRAIN_CURVES:,} to train, {TEST_CURVES} to test, {STEPS} steps, {len(SEEDS)} seeds"
    )


def _beats_regression(reporter: Reporter) -> ClaimResult:
    data = transients()
    scores = _scores(False, reporter)
    plain = logistic_regression(data.train, data.train_labels, data.test)
    peer = classification_scores(plain, data.test_labels).accuracy
    names = ("accuracy", "log loss", "ROC-AUC", "average precision")
    return ClaimResult(
        "; ".join(_told(scores, name) for name in names),
        min(each["accuracy"] for each in scores) > peer,
        f"logistic regression on the same grids: accuracy {peer:.3f}, "
        f"log loss {balanced_log_loss(plain, data.test_labels):.3f}; {_conditions()}",
    )


def _redshift_helps(reporter: Reporter) -> ClaimResult:
    without, within = (_scores(features, Share(reporter, int(features), 2)) for features in (False, True))
    means = [statistics.mean(each["log loss"] for each in scores) for scores in (without, within)]
    return ClaimResult(
        f"with {_told(within, 'log loss')}, without {_told(without, 'log loss')}", means[1] < means[0], _conditions()
    )


def _outputs(name: str, reporter: Reporter) -> ClaimResult:
    figures = reference_figures("t2")["modules"][name]
    model = create_model(name.partition(":")[0], **figures["changes"]).eval()
    load_checkpoint(model, reference_state(figures["layout"], rounded=True))
    (output,) = figures["outputs"]
    series = images(output["input_shape"], output["input_seed"])
    if "features_shape" in output:
        series = append_features(series, images(output["features_shape"], output["features_seed"]))
    with torch.inference_mode():
        answer = model(torch.from_numpy(series).float()).softmax(-1).numpy()
    difference = float(np.abs(np.array(sample(answer)) - output["values"]).max() / output["std"])
    return ClaimResult(
        f"{difference:.1e} in float32",
        difference <= FLOAT32_TOLERANCE,
        "class probabilities; the authors' TensorFlow code computes in float32",
    )


CLAIMS: list[Claim] = [
    *parameter_claims({"t2_plasticc": 13_390, "t2_plasticc_z": 13_454, "t2_fink": 13_262}),
    *(
        Claim(
            id=f"outputs:{name}",
            kind="equality",
            statement=f"{name} gives the outputs of tallamjr/astronet with the same weights (largest difference over "
            f"their standard deviation at most {FLOAT32_TOLERANCE:g} in float32)",
            published="equal",
            run=functools.partial(_outputs, name),
        )
        for name in reference_figures("t2")["modules"]
    ),
    Claim(
        id="beats-logistic-regression",
        kind="direction",
        statement="on synthetic transients, each seed is above logistic regression on the same grids",
        published="log loss 0.507, ROC-AUC 0.98, average precision 0.87 on PLAsTiCC's 14 classes",
        run=_beats_regression,
        slow=True,
    ),
    Claim(
        id="redshift-helps",
        kind="direction",
        statement="the host's redshift as further channels lowers the log loss",
        published="0.473 with, 0.873 without, on PLAsTiCC",
        run=_redshift_helps,
        slow=True,
    ),
]
