"""One trained model in several file formats, and what each weighs."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save
from torch import Tensor

from formwright.errors import UserError
from formwright.files import write_atomically, write_safetensors
from formwright.models import Network

#: The formats that :func:`write_formats` knows, from the one that says most to the one that says least.
FORMATS = ("safetensors", "safetensors.zip", "npz", "codebook.zip", "onnx", "onnx.zip", "int8.onnx", "int8.onnx.zip")


#: What values and indices are called behind the name of their tensor, and the file within the archive.
_VALUES, _INDICES, _INNER = "|values", "|indices", "codebooks.safetensors"
_MOST_VALUES = 256


@dataclass(frozen=True)
class WrittenFile:
    """A file of a model: its format, path and size in bytes, and the bytes that its weights alone would take."""

    format: str
    path: Path
    size: int
    weights: int


def write_formats(model: Network, folder: str | Path, calibration: NDArray[np.float32]) -> dict[str, WrittenFile]:
    """Write ``model`` as safetensors, as a compressed NumPy archive, with codebooks, and as ONNX and INT8 ONNX.

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
    write_codebooks(state, paths["codebook.zip"])
    export_onnx(model, paths["onnx"], model.example(2))
    quantize_onnx(paths["onnx"], paths["int8.onnx"], calibration)
    for form in ("safetensors", "onnx", "int8.onnx"):
        write_zip(paths[form], paths[f"{form}.zip"])
    weights = dict.fromkeys(FORMATS, full) | dict.fromkeys(("int8.onnx", "int8.onnx.zip"), _int8_bytes(model))
    return {form: WrittenFile(form, path, path.stat().st_size, weights[form]) for form, path in paths.items()}


def write_zip(source: Path, target: Path) -> None:
    """``source`` alone in a zip archive, deflated as far as it goes; the same content gives the same bytes."""
    write_atomically(target, _zipped(source.name, source.read_bytes()))


def _zipped(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED, 9)
    return buffer.getvalue()


def write_codebooks(state: Mapping[str, Tensor], path: Path) -> None:
    """Tensors of at most 256 different values as these values and a byte for each entry, the others whole, deflated.

    A zip archive of one safetensors file; :func:`read_codebooks` gives the same tensors back, bit by bit.
    """
    content: dict[str, Tensor] = {}
    for name, tensor in state.items():
        values, indices = torch.unique(tensor, return_inverse=True)
        if len(values) <= _MOST_VALUES and tensor.numel() > len(values):
            content[f"{name}{_VALUES}"], content[f"{name}{_INDICES}"] = values, indices.to(torch.uint8)
        else:
            content[name] = tensor.contiguous()
    write_atomically(path, _zipped(_INNER, save(content)))


def read_codebooks(path: str | Path) -> dict[str, Tensor]:
    """The tensors that :func:`write_codebooks` wrote, for ``load_state_dict``.

    Raises:
        UserError: the file is missing or damaged.
    """
    if not Path(path).is_file():
        raise UserError(f"There is no file {path}.")
    try:
        with zipfile.ZipFile(path) as archive:
            content = load(archive.read(_INNER))
        state = {name: tensor for name, tensor in content.items() if not name.endswith((_VALUES, _INDICES))}
        for name in [name.removesuffix(_VALUES) for name in content if name.endswith(_VALUES)]:
            state[name] = content[f"{name}{_VALUES}"][content[f"{name}{_INDICES}"].long()]
    except Exception as error:  # zip archives and safetensors have errors of their own
        raise UserError(f"{path} is not a whole file of codebooks: {error}.") from None
    return state


def _int8_bytes(model: Network) -> int:
    """A byte for each weight of a dense or convolutional layer, four for everything else."""
    from formwright.compression.values import kernels

    small = sum(weight.numel() for _, weight in kernels(model))
    return small + 4 * (model.parameter_count() - small)
