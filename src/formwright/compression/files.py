"""One trained model in several file formats, and what each weighs."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from formwright.files import write_atomically, write_safetensors
from formwright.models import Model

#: The formats that :func:`write_formats` knows, from the one that says most to the one that says least.
FORMATS = ("safetensors", "safetensors.zip", "npz", "onnx", "onnx.zip", "int8.onnx", "int8.onnx.zip")


@dataclass(frozen=True)
class WrittenFile:
    """A file of a model: its format, path and size in bytes, and the bytes that its weights alone would take."""

    format: str
    path: Path
    size: int
    weights: int


def write_formats(model: Model, folder: str | Path, calibration: NDArray[np.float32]) -> dict[str, WrittenFile]:
    """Write ``model`` as safetensors, as a compressed NumPy archive, and as ONNX in float32 and INT8, by format.

    Those that are not compressed by themselves are written a second time within a zip archive (deflate).

    Args:
        model: what to write.
        folder: where to.
        calibration: inputs by which the ranges of the INT8 model's activations are chosen, ``(rows, ...)``.

    Raises:
        ExportError: the model cannot be exported.
    """
    from formwright.deployment.export import export_onnx
    from formwright.deployment.quantize import quantize_onnx

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    name = model.specification.name
    state = {key: tensor.detach().cpu() for key, tensor in model.state_dict().items()}
    full = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    paths = {form: folder / f"{name}.{form}" for form in FORMATS}
    write_safetensors(paths["safetensors"], state, {"format": "pt"})
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{key: tensor.numpy() for key, tensor in state.items()})
    write_atomically(paths["npz"], buffer.getvalue())
    export_onnx(model, paths["onnx"], model.specification.input.example(2))
    quantize_onnx(paths["onnx"], paths["int8.onnx"], calibration)
    for form in ("safetensors", "onnx", "int8.onnx"):
        write_zip(paths[form], paths[f"{form}.zip"])
    weights = dict.fromkeys(FORMATS, full) | dict.fromkeys(("int8.onnx", "int8.onnx.zip"), _int8_bytes(model))
    return {form: WrittenFile(form, path, path.stat().st_size, weights[form]) for form, path in paths.items()}


def write_zip(source: Path, target: Path) -> None:
    """``source`` alone in a zip archive, deflated as far as it goes; the same content gives the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr(zipfile.ZipInfo(source.name), source.read_bytes(), zipfile.ZIP_DEFLATED, 9)
    write_atomically(target, buffer.getvalue())


def _int8_bytes(model: Model) -> int:
    """A byte for each weight of a dense or convolutional layer, four for everything else."""
    from formwright.compression.values import kernels

    small = sum(weight.numel() for _, weight in kernels(model))
    return small + 4 * (model.parameter_count() - small)
