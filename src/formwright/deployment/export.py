"""From a PyTorch model to an ONNX file that gives the same answers."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import os
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from formwright.deployment import qdq
from formwright.deployment.runtime import OnnxModel
from formwright.errors import UserError
from formwright.files import write_atomically

OPSET = 20  # the first with Gelu as one operator; LayerNormalization came with 17
TOLERANCE = 1e-3  # of the largest output; float32 kernels that add in another order stay far below
# Of the deviation of the outputs, at the root of the mean square: an activation on the border between two integers falls
# to either side, and what comes after it moves by a step.
ROUNDING_TOLERANCE = 0.1
PROTOBUF_LIMIT = 2**31 - 1  # bytes that one ONNX file can hold


class ExportError(UserError):
    """The exported graph is not valid or does not give the model's answers."""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back the exporter's progress lines, its log records and its warnings about libraries that it looked for."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def export_onnx(
    model: nn.Module, path: str | os.PathLike[str], example: Tensor, *, dynamic_batch: bool = True
) -> float:
    """Export ``model`` in evaluation mode to ``path`` and return the largest absolute difference to it.

    The file appears only after ``onnx.checker`` took it and ONNX Runtime gave the eager model's outputs on random
    inputs of ``example``'s shape and, with ``dynamic_batch``, of another batch size. The model itself is not changed.
    Norms that follow convolutions are folded into them, and the tracer's notes are left out. Quantised layers of 8 and
    4 bits are stored as such integers (:mod:`formwright.deployment.qdq`).

    Raises :class:`ExportError` where the two differ by more than a thousandth of the largest output (or, where
    activations are rounded, by a tenth of the outputs' deviation at the root of the mean square), and
    :class:`UserError` for a model of more than 2 GB.
    """
    frozen = copy.deepcopy(model).cpu().eval().requires_grad_(False)
    example = example.detach().cpu()
    program = _trace(frozen, example, dynamic_batch)
    _strip(program.model)
    proto = program.model_proto
    if proto.ByteSize() > # Of the deviation of the outputs, at the root of the mean square: an activation on the border between two integers falls
# to either side, and what comes after it moves by a step.
ROUNDING_TOLERANCE = 0.1
PROTOBUF_LIMIT:
        raise UserError(f"An ONNX file holds at most 2 GB; this model needs {proto.ByteSize() / 1e9:.1f} GB.")
    content = proto.SerializeToString()
    onnx.checker.check_model(content, full_check=True)
    difference = _difference(frozen, example, content, dynamic_batch)
    write_atomically(os.fspath(path), content)
    return difference


def _trace(model: nn.Module, example: Tensor, dynamic_batch: bool) -> torch.onnx.ONNXProgram:
    if dynamic_batch and len(example) < 2:
        # A batch of one would be baked in: sizes 0 and 1 are special to torch.export.
        example = example[:1].repeat(2, *[1] * (example.ndim - 1))
    quantised = qdq.is_quantised(model)
    with _quiet(), torch.no_grad():
        try:
            program = torch.onnx.export(
                qdq.exportable(model) if quantised else model,
                (example,),
                dynamo=True,
                opset_version=qdq.OPSET if quantised else OPSET,
                input_names=["input"],
                output_names=["output"],
                dynamic_shapes=({0: "batch"},) if dynamic_batch else None,
                optimize=True,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            raise ExportError(f"The model cannot be written as ONNX ({reason}); use it in PyTorch.") from error
    assert program is not None  # only the old exporter returns nothing
    if quantised:
        qdq.pack(program.model)
    return program


def _strip(model: Any) -> None:
    """Drop the stack trace and module path of every node: notes for debugging that can outweigh a small model."""
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        value.metadata_props.clear()


def random_like(example: Tensor, batch: int, generator: torch.Generator) -> Tensor:
    """Noise of the example's shape; of ids, those of the example in another order."""
    shape = (batch, *example.shape[1:])
    if example.is_floating_point():
        return torch.randn(shape, generator=generator, dtype=example.dtype)
    return example.flatten()[torch.randint(example.numel(), shape, generator=generator)]


def _difference(model: nn.Module, example: Tensor, content: bytes, dynamic_batch: bool) -> float:
    """The largest absolute difference between the model and its export on random inputs."""
    run = OnnxModel(content, threads=torch.get_num_threads())
    generator = torch.Generator().manual_seed(0)
    rounded = qdq.rounds_activations(model)
    worst = 0.0
    for batch in (len(example), len(example) + 2) if dynamic_batch else (len(example),):
        x = random_like(example, batch, generator)
        with torch.inference_mode():
            expected = model(x).numpy()
        got = run(x.numpy(), batch_size=batch)
        largest = float(np.abs(expected).max())
        difference = float(np.abs(got - expected).max()) if got.shape == expected.shape else float("inf")
        same = difference <= TOLERANCE * max(largest, 1e-6)
        if not same and rounded and np.isfinite(difference):
            same = float(np.sqrt(np.mean((got - expected) ** 2))) <= ROUNDING_TOLERANCE * float(expected.std())
        if not same:
            raise ExportError(
                f"The exported model differs from the original by {difference:.3g} at batch {batch} (outputs up to "
                f"{largest:.3g}), so no file was written; use the model in PyTorch."
            )
        worst = max(worst, difference)
    return worst
