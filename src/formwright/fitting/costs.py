"""What a candidate costs here, found by building and measuring it on a bench."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from formwright.fitting.bench import Bench
from formwright.measurement.latency import measure_latency
from formwright.measurement.machine import torch_threads
from formwright.measurement.macs import count_macs
from formwright.measurement.size import model_bytes
from formwright.models import Network
from formwright.training.evaluation import faster_precision, step_seconds
from formwright.training.recipe import Precision

#: A step is measured with so many samples at most, and scaled to the batch.
MOST_MEASURED = 128


@dataclass(frozen=True)
class Cost:
    """What a candidate costs here; times are seconds, sizes bytes."""

    parameters: int
    macs: int
    eager_latency: float
    onnx_latency: float | None
    size: int
    smallest_size: int
    step: float


def measure_candidate(bench: Bench, model: Network, *, batch_size: int, precision: Precision) -> Cost:
    """Measure a candidate: MACs, size, latency of one sample, seconds of a training step."""
    model.eval()
    data = bench.task.data
    example = data.example()
    with torch_threads(1), torch.inference_mode():
        eager = measure_latency(lambda: model(example), min_time=0.02, min_repeats=5, warmup=1).median
    batch = data.batch(min(batch_size, MOST_MEASURED))
    step = step_seconds(model, bench.task.goal.objective(), batch, precision, repeats=2)
    return Cost(
        parameters=model.parameter_count(),
        macs=count_macs(model, example),
        eager_latency=eager,
        onnx_latency=None,
        size=model_bytes(model),
        smallest_size=model_bytes(model, "int8"),
        step=step * batch_size / len(batch.inputs),
    )


def onnx_seconds(bench: Bench, model: Network) -> float:
    """Median seconds for one sample of the float32 export in ONNX Runtime."""
    from formwright.deployment.export import export_onnx
    from formwright.deployment.runtime import OnnxModel

    example = bench.task.data.example()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export_onnx(model, path, example, free=bench.task.data.free)
        run = OnnxModel(path, threads=bench.threads)
        array = example.numpy()
        return measure_latency(lambda: run(array), min_time=0.05, warmup=3).median


def faster_setting(bench: Bench, model: Network, *, batch_size: int) -> Precision:
    """The precision in which a timed step is faster on this machine; what follows takes as many threads as are."""
    batch = bench.task.data.batch(min(batch_size, MOST_MEASURED))
    precision = faster_precision(model, bench.task.goal.objective(), batch)
    by_threads = {}
    for count in sorted({1, bench.threads}):
        torch.set_num_threads(count)
        by_threads[count] = step_seconds(model, bench.task.goal.objective(), batch, precision)
    torch.set_num_threads(min(by_threads, key=lambda count: by_threads[count]))
    return precision
