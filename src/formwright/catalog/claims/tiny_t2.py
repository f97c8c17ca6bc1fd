"""Claims of Tiny t2: fewer values, fewer bytes, the same answers, and a faster runtime."""

from __future__ import annotations

import functools
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from formwright.catalog.claim import Claim, ClaimResult
from formwright.catalog.claims.t2 import SEEDS, trained_t2
from formwright.catalog.experiments.transients import Floats, probabilities, train_on, transients
from formwright.compression.files import WrittenFile, write_formats
from formwright.compression.values import KeptValues, cluster, sparsify, unique_values, zeros
from formwright.deployment.export import export_onnx
from formwright.deployment.runtime import OnnxModel
from formwright.metrics.classification import classification_scores, softmax
from formwright.metrics.ranking import balanced_log_loss
from formwright.models import Network, create_model
from formwright.objectives import BalancedClassification
from formwright.reporting import Reporter

CLUSTERS, SPARSITY = 16, 0.5
#: Smaller still: what is tried to come to the published factor.
FEWER_CLUSTERS, MORE_ZEROS = 8, 0.8
#: Steps after each change, at a tenth of the first training's rate.
TUNING_STEPS, TUNING_RATE = 60, 1e-3
CALLS = 500
#: So many points of accuracy may be lost.
MOST_LOST = 0.01


@dataclass(frozen=True, eq=False)
class Compressed:
    """A model of the chain, what it answers, and its files."""

    accuracy: float
    log_loss: float
    files: dict[str, WrittenFile]


def _tuned(model: Network, seed: int) -> Network:
    """Trained on for a while with its zeros and shared values kept."""
    data = transients()
    series = data.series(features=True)[0]
    objective = KeptValues(BalancedClassification(), model)
    return train_on(
        model, series, data.train_labels, steps=TUNING_STEPS, seed=seed, learning_rate=TUNING_RATE, objective=objective
    )


STAGES: dict[str, Callable[[Network, int], Network]] = {
    "trained": lambda model, seed: model,
    "clustered": lambda model, seed: _tuned(cluster(model, CLUSTERS), seed),
    "pruned": lambda model, seed: _tuned(sparsify(model, SPARSITY), seed),
    "pruned and clustered": lambda model, seed: _tuned(
        cluster(_tuned(sparsify(model, SPARSITY), seed), CLUSTERS), seed
    ),
    "pruned further and clustered": lambda model, seed: _tuned(
        cluster(_tuned(sparsify(model, MORE_ZEROS), seed), FEWER_CLUSTERS), seed
    ),
}


def _judged(likely: Floats) -> tuple[float, float]:
    labels = transients().test_labels
    return classification_scores(likely, labels).accuracy, balanced_log_loss(likely, labels)


@functools.cache
def _variant(stage: str, seed: int) -> Compressed:
    train, test = (series.astype(np.float32) for series in transients().series(features=True))
    model = STAGES[stage](trained_t2(True, seed), seed)
    with tempfile.TemporaryDirectory() as folder:
        files = write_formats(model, folder, train[:128])
    return Compressed(*_judged(probabilities(model, test)), files)


def _chain(reporter: Reporter) -> dict[str, list[Compressed]]:
    runs = [(stage, seed) for seed in SEEDS for stage in STAGES]
    found: dict[str, list[Compressed]] = {stage: [] for stage in STAGES}
    for index, (stage, seed) in enumerate(runs):
        reporter.progress(index / len(runs), f"{stage}, seed {seed}")
        found[stage].append(_variant(stage, seed))
    return found


def _mean(variants: list[Compressed], what: str) -> float:
    return statistics.mean(getattr(variant, what) for variant in variants)


def _size(variants: list[Compressed], form: str) -> float:
    return statistics.mean(variant.files[form].size for variant in variants)


def _size_claim(reporter: Reporter) -> ClaimResult:
    chain = _chain(reporter)
    trained = chain["trained"]
    least = _mean(trained, "accuracy") - MOST_LOST
    kept = [stage for stage in STAGES if _mean(chain[stage], "accuracy") >= least]
    size, stage, form = min((_size(chain[stage], form), stage, form) for stage in kept for form in trained[0].files)
    before = {form: _size(trained, form) for form in ("safetensors", "onnx")}
    table = "; ".join(
        f"{name}: " + ", ".join(f"{form} {_size(variants, form) / 1e3:.1f} kB" for form in trained[0].files)
        for name, variants in chain.items()
    )
    return ClaimResult(
        f"{before['onnx'] / size:.1f} times smaller than float32 ONNX and {before['safetensors'] / size:.1f} times "
        f"than safetensors: {size / 1e3:.1f} kB, {stage}, {form}",
        before["onnx"] / size >= 10,
        f"accuracy {_mean(chain[stage], 'accuracy'):.3f} against {_mean(trained, 'accuracy'):.3f}; weights of the "
        f"trained model {trained[0].files['onnx'].weights / 1e3:.1f} kB; {table}",
    )


def _accuracy_claim(reporter: Reporter) -> ClaimResult:
    chain = _chain(reporter)
    told = "; ".join(
        f"{stage} {_mean(variants, 'accuracy'):.3f} (log loss {_mean(variants, 'log_loss'):.3f})"
        for stage, variants in chain.items()
    )
    lost = _mean(chain["trained"], "accuracy") - _mean(chain["clustered"], "accuracy")
    return ClaimResult(
        told,
        lost < MOST_LOST,
        f"{CLUSTERS} clusters, {SPARSITY:.0%} zeros; further: {FEWER_CLUSTERS} clusters, {MORE_ZEROS:.0%} zeros; "
        f"{TUNING_STEPS} steps after each, {len(SEEDS)} seeds",
    )


def _int8_claim(reporter: Reporter) -> ClaimResult:
    """The INT8 file's answers on the test curves, beside the float32 model's."""
    train, test = (series.astype(np.float32) for series in transients().series(features=True))
    before, after = [], []
    for index, seed in enumerate(SEEDS):
        reporter.progress(index / len(SEEDS), f"seed {seed}")
        model = trained_t2(True, seed)
        with tempfile.TemporaryDirectory() as folder:
            files = write_formats(model, folder, train[:128])
            scores = OnnxModel(files["int8.onnx"].path)(test)
        before.append(_judged(probabilities(model, test))[0])
        after.append(_judged(softmax(scores))[0])
    return ClaimResult(
        f"{statistics.mean(after):.3f} in INT8, {statistics.mean(before):.3f} in float32",
        statistics.mean(before) - statistics.mean(after) < MOST_LOST,
        f"{len(SEEDS)} seeds",
    )


def _values_claim(reporter: Reporter) -> ClaimResult:
    torch.manual_seed(0)
    model = create_model("t2_plasticc_z")
    both = cluster(sparsify(model, SPARSITY), CLUSTERS)
    most = max(unique_values(both).values())
    shares = set(zeros(both).values())
    same = {k: v.shape for k, v in both.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}
    return ClaimResult(
        f"at most {most} values, {', '.join(f'{share:.1%}' for share in sorted(shares))} zeros, "
        f"{'the same' if same else 'other'} names and shapes",
        most <= CLUSTERS and shares == {SPARSITY} and same,
    )


def _latency_claim(reporter: Reporter) -> ClaimResult:
    """Median of 500 calls with one light curve each, both in turn, one thread."""
    torch.manual_seed(0)
    model = create_model("t2_plasticc_z").eval()
    x = torch.randn(1, 100, 8)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "t2.onnx"
            export_onnx(model, path, x)
            runtime = OnnxModel(path, threads=1)
            eager: list[float] = []
            exported: list[float] = []
            with torch.inference_mode():
                for _ in range(CALLS):
                    start = time.perf_counter()
                    model(x)
                    middle = time.perf_counter()
                    runtime(x.numpy())
                    eager.append(middle - start)
                    exported.append(time.perf_counter() - middle)
    finally:
        torch.set_num_threads(threads)
    slow, fast = statistics.median(eager), statistics.median(exported)
    return ClaimResult(
        f"{slow / fast:.1f} times faster: {1e6 * fast:.0f} µs in ONNX Runtime, {1e6 * slow:.0f} µs in PyTorch",
        fast < slow,
        f"one light curve a call, one thread, median of {CALLS} calls",
    )


def _export_claim(reporter: Reporter) -> ClaimResult:
    """Answers of the file to normal random light curves, of the plain and of a clustered model."""
    torch.manual_seed(0)
    worst = 0.0
    for model in (create_model("t2_plasticc_z").eval(), cluster(create_model("t2_fink"), CLUSTERS).eval()):
        x = model.specification.input.example(64)
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
            path = Path(folder) / "t2.onnx"
            export_onnx(model, path, x)
            worst = max(worst, float(np.abs(OnnxModel(path)(x.numpy()) - model(x).numpy()).max()))
    return ClaimResult(f"{worst:.1e}", worst < 1e-5)


CLAIMS: list[Claim] = [
    Claim(
        id="values",
        kind="count",
        statement="after pruning by half and clustering, every kernel has half zeros exactly and at most 16 values",
        published="16 values, 50.0% zeros, the same names and shapes",
        run=_values_claim,
    ),
    Claim(
        id="export",
        kind="equality",
        statement="the exported file gives the answers of the model, clustered or not (largest difference below 1e-5)",
        published="equal",
        run=_export_claim,
    ),
    Claim(
        id="latency",
        kind="measured",
        statement="one light curve through the exported file, against the framework",
        published="8 times faster locally (TensorFlow Lite against TensorFlow)",
        run=_latency_claim,
    ),
    Claim(
        id="accuracy",
        kind="direction",
        statement="clustering costs less than a point of accuracy on synthetic transients",
        published="unchanged by clustering; log loss 0.636 instead of 0.473 by pruning alone",
        run=_accuracy_claim,
        slow=True,
    ),
    Claim(
        id="size",
        kind="measured",
        statement="the smallest file within a point of accuracy, at least 10 times smaller than what is exported",
        published="18 times smaller, performance unchanged",
        run=_size_claim,
        slow=True,
    ),
    Claim(
        id="int8",
        kind="direction",
        statement="INT8 weights and activations cost less than a point of accuracy",
        published="a quantised TensorFlow Lite file, log loss unchanged",
        run=_int8_claim,
        slow=True,
    ),
]
