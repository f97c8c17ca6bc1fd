"""One model on one machine: latency, throughput, memory, parameters, multiply-accumulates and file size."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from formwright.batch import Inputs, call, first, moved
from formwright.errors import UnknownNameError, UserError
from formwright.measurement.latency import Latency, measure_latency
from formwright.measurement.machine import torch_threads
from formwright.measurement.macs import count_macs, evaluation_mode
from formwright.measurement.memory import peak_memory
from formwright.measurement.size import model_bytes, weight_bytes

SHIPPED = "model.onnx"
WEIGHTS = "model.safetensors"

Size = int | tuple[int, int] | None


@dataclass(frozen=True)
class Measurement:
    """What one backend needs for a model: the name of a model and a backend, and figures of one call.

    ``latency``: seconds for the whole batch. ``throughput``: inputs a second. ``peak_memory``: bytes of weights and
    temporaries (``None`` on a GPU, or where the system cannot tell). ``macs``: for one input. ``file_size``: bytes on
    disk of what the backend loads; of a model that was never saved, the estimate.
    """

    name: str
    backend: str
    batch: int
    input_size: tuple[int, ...]
    threads: int
    latency: Latency
    throughput: float
    peak_memory: int | None
    parameters: int
    macs: int
    file_size: int

    @property
    def seconds(self) -> float:
        """The median latency: what a :class:`~formwright.measurement.budget.Budget` limits."""
        return self.latency.median

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``json.dump``; times in seconds, sizes in bytes."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class _Subject:
    """The model to measure, its input and the folder that it came from."""

    model: nn.Module
    x: Inputs
    threads: int
    folder: Path | None
    workspace: Path

    def saved(self, name: str) -> Path | None:
        path = self.folder / name if self.folder else None
        return path if path and path.is_file() else None

    @functools.cached_property
    def onnx_file(self) -> Path:
        from formwright.deployment.export import export_onnx

        path = self.workspace / SHIPPED
        export_onnx(self.model, path, self.x)
        return path

    @functools.cached_property
    def int8_file(self) -> Path:
        from formwright.deployment.export import random_like
        from formwright.deployment.quantize import quantize_onnx

        # Speed and size do not depend on the values, so noise will do to calibrate.
        generator = torch.Generator().manual_seed(0)
        path = self.workspace / "model.int8.onnx"
        if isinstance(self.x, torch.Tensor):
            quantize_onnx(self.onnx_file, path, random_like(self.x.cpu(), 8, generator).numpy())
        else:
            noise = {name: random_like(x.cpu(), 8, generator).numpy() for name, x in self.x.items()}
            quantize_onnx(self.onnx_file, path, noise)
        return path


@dataclass(frozen=True)
class _Figures:
    latency: Latency
    peak_memory: int | None
    file_size: int


def _eager(subject: _Subject) -> _Figures:
    return _torch(subject, subject.model)


def _compile(subject: _Subject) -> _Figures:
    return _torch(subject, torch.compile(subject.model))


def _torch(subject: _Subject, model: Any) -> _Figures:
    with evaluation_mode(subject.model), torch.inference_mode():
        latency = measure_latency(lambda: call(model, subject.x))
        # Of a model on another device the host's memory says nothing.
        device = first(subject.x).device.type
        temporaries = peak_memory(lambda: call(model, subject.x)) if device == "cpu" else None
    saved = subject.saved(WEIGHTS)
    return _Figures(
        latency,
        None if temporaries is None else temporaries + weight_bytes(subject.model),
        saved.stat().st_size if saved else model_bytes(subject.model),
    )


def _onnx(subject: _Subject) -> _Figures:
    return _onnx_file(subject, subject.saved(SHIPPED) or subject.onnx_file)


def _onnx_int8(subject: _Subject) -> _Figures:
    return _onnx_file(subject, subject.int8_file)


def _onnx_file(subject: _Subject, path: Path) -> _Figures:
    from formwright.deployment.runtime import OnnxModel

    x = moved(subject.x, torch.device("cpu"))
    arrays: Any = x.numpy() if isinstance(x, torch.Tensor) else {name: each.numpy() for name, each in x.items()}
    rows = len(first(x))
    run = OnnxModel(path, subject.threads)
    latency = measure_latency(lambda: run(arrays, batch_size=rows))
    # A session that has run keeps its memory, so a fresh one tells: its weights and its first call.
    peak = peak_memory(lambda: OnnxModel(path, subject.threads)(arrays, batch_size=rows))
    return _Figures(latency, peak, path.stat().st_size)


BACKENDS: dict[str, Callable[[_Subject], _Figures]] = {
    "eager": _eager,
    "compile": _compile,
    "onnx": _onnx,
    "onnx-int8": _onnx_int8,
}


def _resolve(model: nn.Module | str | Path, size: Size) -> tuple[str, nn.Module, Path | None]:
    if isinstance(model, nn.Module):
        specification = getattr(model, "specification", None)
        return getattr(specification, "name", type(model).__name__), model, None
    from formwright.models import MODELS, create_model, from_pretrained

    folder = Path(model)
    if folder.is_dir():
        return folder.resolve().name, from_pretrained(folder), folder
    if size is None:
        return str(model), create_model(str(model)), None
    # Position tables are built for one size, so a size that is asked for is built.
    grid = "image_size" in inspect.signature(MODELS[str(model)].build).parameters
    return str(model), create_model(str(model), **{"image_size" if grid else "length": size}), None


def _example(model: nn.Module, size: Size, batch: int) -> Inputs:
    """Random inputs of the model's kind, of its own size or of the one that is asked for."""
    from formwright.models.network import Network
    from formwright.nn.inputs import ImageInput

    source: Any = None
    if isinstance(model, Network):
        source, *others = (own for own in model.inputs.values() if not getattr(own, "optional", False))
        if others or not isinstance(source, ImageInput):
            resized = source if size is None else _resized(source, size)
            if others and resized != source:
                raise UserError(f"{model.specification.name} takes several inputs and is measured at its own size.")
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                return model.example(batch) if resized == source else resized.example(batch)
    size = size or getattr(source, "size", None)
    if size is None:
        raise UserError("The model does not say its image size; give one, such as size=224.")
    height, width = (size, size) if isinstance(size, int) else size
    shape = (batch, getattr(source, "channels", 3), height, width)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _resized(source: Any, size: Size) -> Any:
    """The input in another length, or along every axis of a grid."""
    if not hasattr(source, "size"):
        raise UserError("The model's input has a size of its own alone; leave the size out.")
    if hasattr(source, "length"):
        return dataclasses.replace(source, length=size)
    sides = (size,) * len(source.size) if isinstance(size, int) else size
    return dataclasses.replace(source, size=sides)


def measure(
    model: nn.Module | str | Path,
    *,
    batch: int = 1,
    size: Size = None,
    backends: Sequence[str] = ("eager",),
    threads: int | None = None,
) -> list[Measurement]:
    """Measure a model, a registered name or a saved folder on each of ``backends``, on this machine.

    ``size``: pixels, height and width, or the length of a sequence (default: what the model is built for).
    ``backends``: ``eager``, ``compile`` (``torch.compile``), ``onnx`` (a folder's own ``model.onnx`` if it has one) and
    ``onnx-int8``. ``threads``: default PyTorch's number. The input is random; images are channels last, the layout in
    which PyTorch convolves fastest. The model is left as it was.

    Raises :class:`UserError` for an unknown backend, name or folder, or where no size is known.
    """
    for backend in backends:
        if backend not in BACKENDS:
            raise UnknownNameError("backend", backend, BACKENDS)
    name, module, folder = _resolve(model, size)
    x = _example(module, size, batch)
    parameters = sum(parameter.numel() for parameter in module.parameters())
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    x = moved(x, device)
    macs = count_macs(module, x[:1] if isinstance(x, torch.Tensor) else {name: each[:1] for name, each in x.items()})
    with tempfile.TemporaryDirectory() as workspace, torch_threads(threads) as used:
        if isinstance(x, torch.Tensor) and x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        shape = first(x).shape
        subject = _Subject(module, x, used, folder, Path(workspace))
        results = []
        for backend in backends:
            figures = BACKENDS[backend](subject)
            results.append(
                Measurement(
                    name=name,
                    backend=backend,
                    batch=batch,
                    input_size=tuple(shape[2:] if len(shape) >= 4 else shape[1:2]),
                    threads=used,
                    latency=figures.latency,
                    throughput=batch / figures.latency.median,
                    peak_memory=figures.peak_memory,
                    parameters=parameters,
                    macs=macs,
                    file_size=figures.file_size,
                )
            )
        return results
