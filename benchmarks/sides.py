"""Our side: the forms in which a model can run, each as a call without arguments."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.timm_worker import training_step
from formwright import create_model
from formwright.compression.folding import fold
from formwright.deployment import ExportError, OnnxModel, export_onnx, quantize_onnx
from formwright.measurement import count_macs
from formwright.models import Model
from formwright.training.memory import keep_freed_memory

Call = Callable[[], object]

DEPLOYED = ("folded", "bfloat16", "compile", "onnx", "onnx-int8")  # any of them may be shipped; the best one counts
FORMS = ("eager", *DEPLOYED)


@dataclass(frozen=True)
class Sides:
    """The calls of one case by form, and what the floor under them follows from."""

    calls: dict[str, Call]
    parameters: int
    macs: int


def inference(name: str, batch: int, size: int, threads: int, forms: Iterable[str]) -> Sides:
    """The model in eval mode in each of ``forms``."""
    torch.manual_seed(0)
    model = create_model(name).eval()
    x = torch.randn(batch, 3, size, size)
    macs = count_macs(model, x[:1])
    parameters = model.parameter_count()
    calls: dict[str, Call] = {}
    if "eager" in forms:
        calls["eager"] = _without_gradients(model, x)
    folded = fold(model)
    if "folded" in forms:
        calls["folded"] = _without_gradients(folded, x)
    if "bfloat16" in forms:
        calls["bfloat16"] = _without_gradients(fold(model).bfloat16(), x.bfloat16())
    if "compile" in forms:
        calls["compile"] = _without_gradients(torch.compile(folded), x)
    if "onnx" in forms or "onnx-int8" in forms:
        calls |= _onnx(folded, x, threads, forms)
    return Sides(calls, parameters, macs)


def _without_gradients(model: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> Call:
    @torch.inference_mode()
    def call() -> torch.Tensor:
        return model(x)

    return call


def _onnx(model: Model, x: torch.Tensor, threads: int, forms: Iterable[str]) -> dict[str, Call]:
    calls: dict[str, Call] = {}
    images = x.numpy()
    with tempfile.TemporaryDirectory() as folder:
        plain, integer = Path(folder, "model.onnx"), Path(folder, "model.int8.onnx")
        with suppress(ExportError):
            export_onnx(model, plain, x)
            calls["onnx"] = _session(plain, images, threads)
            if "onnx-int8" in forms:
                noise = np.random.default_rng(0).standard_normal((4, *images.shape[1:]), np.float32)
                quantize_onnx(plain, integer, noise)
                calls["onnx-int8"] = _session(integer, images, threads)
    return {form: call for form, call in calls.items() if form in forms}


def _session(path: Path, images: np.ndarray, threads: int) -> Call:
    run = OnnxModel(path.read_bytes(), threads)
    return lambda: run(images, batch_size=len(images))


def training(name: str, batch: int, size: int) -> Sides:
    """A training step as ``formwright fit`` does it: it keeps the memory that a step frees and the next one needs."""
    keep_freed_memory()
    torch.manual_seed(0)
    model = create_model(name).train()
    x = torch.randn(batch, 3, size, size)
    macs = 3 * count_macs(model, x[:1])  # backward: once for the inputs and once for the weights
    return Sides({"training": training_step(model, x)}, model.parameter_count(), macs)
