"""Exported forms of a model, made and measured on a bench: float32, INT8, and what a compressor leaves of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

from torch import nn

from formwright.compression.folding import fold
from formwright.compression.registry import Job, tried_in_fit
from formwright.deployment.export import export_onnx
from formwright.deployment.quantize import quantize_onnx
from formwright.deployment.runtime import OnnxModel
from formwright.fitting.bench import Bench
from formwright.fitting.records import Variant
from formwright.measurement.latency import measure_latency
from formwright.measurement.macs import count_macs
from formwright.models import Network, from_pretrained
from formwright.nn.layers import Layer
from formwright.training.recipe import Recipe

#: In place of a trial's number in the seed of what a compressor left and learns again.
RECOVERY_NUMBER = 900


def export(bench: Bench, model: nn.Module, label: str, trial: int) -> Variant:
    """Export to float32 ONNX, save the model beside it and measure the file."""
    assert isinstance(model, Network)
    started = time.monotonic()
    path = write(bench, model, label)
    variant = measured(bench, model, label, "float32", path, trial)
    bench.tell("facts", {"export_seconds": time.monotonic() - started})
    return variant


def write(bench: Bench, model: Network, label: str, precision: str = "float32") -> Path:
    """Export to ONNX, with ``int8`` in this precision too, and save the model beside it; the path of the latter.

    Adapters become part of the layers that they stand beside.
    """
    if any(isinstance(module, Layer) and module.merges for module in model.modules()):
        model = fold(model)
    path = bench.paths.variant(f"{label}-float32.onnx")
    path.parent.mkdir(parents=True, exist_ok=True)
    export_onnx(model, path, bench.task.data.example(), free=bench.task.data.free)
    model.save_pretrained(bench.paths.variant(label))
    if precision != "int8":
        return path
    whole, path = path, bench.paths.variant(f"{label}-int8.onnx")
    quantize_onnx(whole, path, bench.task.data.calibration())
    return path


def quantize(bench: Bench, label: str, trial: int) -> Variant:
    """The INT8 form of what :func:`export` made, with training samples for calibration."""
    model = from_pretrained(bench.paths.variant(label))
    source = bench.paths.variant(f"{label}-float32.onnx")
    path = bench.paths.variant(f"{label}-int8.onnx")
    quantize_onnx(source, path, bench.task.data.calibration())
    return measured(bench, model, label, "int8", path, trial)


def measured(
    bench: Bench, model: Network, label: str, precision: Literal["float32", "int8"], path: Path, trial: int
) -> Variant:
    """An exported file with its score on validation data, its latency and its size."""
    run, data = OnnxModel(path, threads=bench.threads), bench.task.data
    score = bench.task.goal.score(run.on_tensors, "val")
    one = data.example().numpy()
    latency = measure_latency(lambda: run(one), min_time=0.5, warmup=10)
    return Variant(
        name=f"{label}, {precision}",
        trial=trial,
        precision=precision,
        file=path.relative_to(bench.paths.root).as_posix(),
        latency=latency.median,
        latency_low=latency.low,
        latency_high=latency.high,
        size=path.stat().st_size,
        macs=count_macs(model, data.example()),
        parameters=model.parameter_count(),
        score=score,
        form=label,
        least=bench.task.goal.least(run.on_tensors, "val") if data.few and data.dealt else None,
    )


def compress(
    bench: Bench,
    label: str,
    *,
    source: str,
    trial: int,
    share: float,
    recipe: Recipe,
    seconds: float,
    most: int | None,
) -> Variant:
    """Compress an exported model, let the rest recover by learning from the whole model, and export it.

    Args:
        label: of a compressor that is tried in ``fit``, and of what it makes.
        source: label of the exported model.
        share: of the multiply-accumulates, to leave.
        seconds: for the recovery; ``most`` steps at most.
    """
    compressor = next(kind for kind in tried_in_fit() if kind.label == label)
    model = from_pretrained(bench.paths.variant(source))
    size = recipe.batch_size
    batches = list(bench.task.data.evaluation_batches("train", batch_size=size, most=4 * size))
    job = Job(batches=batches, objective=bench.task.goal.objective(), teacher=model, seed=bench.seed)
    smaller = compressor.leaving(share).run([model], job).model
    trainer = bench.new_trainer(smaller, recipe, RECOVERY_NUMBER, bench.task.goal.distilled(recipe, model))
    checkpoint = bench.paths.checkpoint(label)
    if checkpoint.is_file():  # of a run that was killed here; the same step cuts the same
        trainer.load(checkpoint)
    bench.finish(trainer, None, seconds, label, most=most)
    return export(bench, trainer.averaged_model(), label, trial)
