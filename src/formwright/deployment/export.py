"""From a PyTorch model to an ONNX file that gives the same answers."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import io
import logging
import math
import os
import warnings
from collections.abc import Collection, Iterator, Mapping
from typing import Any
from unittest import mock

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.onnx._internal.exporter._registration import ONNXRegistry

from formwright.batch import Inputs
from formwright.deployment import qdq
from formwright.deployment.runtime import NOTES, OnnxModel
from formwright.errors import UserError
from formwright.files import write_atomically

OPSET = 20  # the first with Gelu as one operator; LayerNormalization came with 17
TOLERANCE = 1e-3  # of the largest output; float32 kernels that add in another order stay far below
# Of the deviation of the outputs, at the root of the mean square, where activations are rounded: one on the border
# between two integers falls to either side, and what comes after it moves by a step.
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


_read_operators = functools.cache(ONNXRegistry.from_torchlib)


@contextlib.contextmanager
def _operators_once() -> Iterator[None]:
    """Let the exporter read its table of operators once per process, and not at each export.

    It finds the table in the source of 500 functions, which takes a fifth to a half of exporting a small model. Nobody
    changes the table but who passes one of their own, as we do not.
    """
    with mock.patch.object(ONNXRegistry, "from_torchlib", staticmethod(_read_operators)):
        yield


def export_onnx(
    model: nn.Module,
    path: str | os.PathLike[str],
    example: Inputs,
    *,
    dynamic_batch: bool = True,
    free: Collection[str] = (),
) -> float:
    """Export ``model`` in evaluation mode to ``path`` and return the largest absolute difference to it.

    The file appears only after ``onnx.checker`` took it and ONNX Runtime gave the eager model's outputs on random
    inputs of ``example``'s shape, of another batch size with ``dynamic_batch``, and of other sizes along axes that are
    ``free``. The model itself is not changed. Norms that follow convolutions are folded into them, and the tracer's
    notes are left out. Quantised layers of 8 and 4 bits are stored as such integers (:mod:`formwright.deployment.qdq`).

    Args:
        model: a network, or any module.
        path: where the file goes.
        example: what the model takes: a tensor, or several by the names of ``forward``, which the file keeps. The
            outputs keep their names too if ``forward`` returns a mapping; a single one is ``output``.
        dynamic_batch: whether the batch may have any size.
        free: names of further axes that may have any size, such as ``height``, ``width`` or ``time``; a network says
            which axes its inputs have.

    Raises:
        ExportError: the two differ by more than a thousandth of the largest output (where activations are rounded, by
            more than a tenth of the outputs' deviation in the mean), or the model cannot be written.
        UserError: the model is larger than 2 GB, or an axis that is to be free has no name in any input.
    """
    frozen = copy.deepcopy(model).cpu().eval().requires_grad_(False)
    named = _in_order(frozen, example)
    axes = _axes(frozen, named, dynamic_batch, free)
    if dynamic_batch:
        # A batch of one would be baked in: sizes 0 and 1 are special to torch.export.
        named = {name: x[:1].repeat(2, *[1] * (x.ndim - 1)) if len(x) < 2 else x for name, x in named.items()}
    content = _trace(frozen, named, axes, single=not isinstance(example, Mapping))
    difference = _difference(frozen, named, axes, content, single=not isinstance(example, Mapping))
    write_atomically(os.fspath(path), content)
    return difference


Named = dict[str, Tensor]
#: Names of the free axes of each input, by their numbers.
Axes = dict[str, dict[int, str]]


def _in_order(model: nn.Module, example: Inputs) -> Named:
    """The inputs by name, in the order of ``forward``."""
    if isinstance(example, Tensor):
        return {"input": example.detach().cpu()}
    order = [name for name in inspect.signature(model.forward).parameters if name in example]
    unknown = [name for name in example if name not in order]
    if unknown:
        raise UserError(f"{type(model).__name__} takes no input named {unknown[0]!r}.")
    return {name: example[name].detach().cpu() for name in order}


def _axes(model: nn.Module, named: Named, dynamic_batch: bool, free: Collection[str]) -> Axes:
    wanted = {*free, *(("batch",) if dynamic_batch else ())}
    declared = getattr(model, "inputs", {})
    known: Axes = {name: {0: "batch"} for name in named}
    for name, source in zip(named, declared.values(), strict=False) if len(named) == 1 else declared.items():
        if name in known:
            known[name] = dict(source.free)
    missing = wanted.difference(*(axes.values() for axes in known.values()))
    if missing:
        names = sorted({axis for axes in known.values() for axis in axes.values()})
        raise UserError(f"No input has an axis named {sorted(missing)[0]!r}; these may be free: {', '.join(names)}.")
    return {name: {axis: what for axis, what in axes.items() if what in wanted} for name, axes in known.items()}


def _trace(model: nn.Module, named: Named, axes: Axes, *, single: bool) -> bytes:
    with torch.inference_mode():
        outputs = model(*named.values()) if single else model(**named)
    quantised = qdq.is_quantised(model)
    dynamic = tuple(axes.values()) if single else axes
    return onnx_file(
        qdq.exportable(model) if quantised else model,
        tuple(named.values()) if single else (),
        kwargs=None if single else named,
        input_names=list(named),
        output_names=list(outputs) if isinstance(outputs, Mapping) else ["output"],
        dynamic_shapes=dynamic if any(axes.values()) else None,
        quantised=quantised,
    )


def onnx_file(
    module: nn.Module, arguments: tuple[Any, ...], *, quantised: bool = False, notes: str = "", **options: Any
) -> bytes:
    """A module as an ONNX file that ``onnx.checker`` took.

    Args:
        module: in evaluation mode, without gradients.
        arguments: of its ``forward``, of the sizes that do not vary.
        quantised: whether it holds layers of 8 or 4 bits in the exporter's form.
        notes: kept in the file under :data:`NOTES`.
        options: names of inputs and outputs, and free axes, as ``torch.onnx.export`` takes them.

    Raises:
        ExportError: it cannot be written.
        UserError: it is larger than 2 GB.
    """
    with _quiet(), _operators_once(), torch.no_grad():
        try:
            program = torch.onnx.export(
                module,
                arguments,
                dynamo=True,
                opset_version=qdq.OPSET if quantised else OPSET,
                optimize=True,
                verbose=False,
                **options,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            raise ExportError(f"The model cannot be written as ONNX ({reason}); use it in PyTorch.") from error
    assert program is not None  # only the old exporter returns nothing
    if quantised:
        qdq.pack(program.model)
    _strip(program.model)
    if notes:
        program.model.metadata_props[NOTES] = notes
    proto = program.model_proto
    if proto.ByteSize() > PROTOBUF_LIMIT:
        raise UserError(f"An ONNX file holds at most 2 GB; this model needs {proto.ByteSize() / 1e9:.1f} GB.")
    content: bytes = proto.SerializeToString()
    onnx.checker.check_model(content, full_check=True)
    return content


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
    """Noise of the example's shape; of whole numbers, those of the example elsewhere, none above the largest there."""
    shape = (batch, *example.shape[1:])
    if example.is_floating_point():
        return torch.randn(shape, generator=generator, dtype=example.dtype)
    return example.flatten()[torch.randint(example.numel(), shape, generator=generator)].minimum(example.amax(0))


def _other_sizes(named: Named, axes: Axes) -> Named:
    """The example, twice as large along the free axes."""
    larger = {}
    for name, x in named.items():
        for axis, what in axes[name].items():
            if what != "batch":
                x = x.repeat_interleave(2, dim=axis)
        larger[name] = x
    return larger


def _difference(model: nn.Module, named: Named, axes: Axes, content: bytes, *, single: bool) -> float:
    """The largest absolute difference between the model and its export on random inputs."""
    run = OnnxModel(content, threads=torch.get_num_threads())
    generator = torch.Generator().manual_seed(0)
    size = len(next(iter(named.values())))
    dynamic = any("batch" in own.values() for own in axes.values())
    trials = [(named, size), *([(named, size + 2)] if dynamic else [])]
    if any(what != "batch" for own in axes.values() for what in own.values()):
        trials.append((_other_sizes(named, axes), size))
    rounded = qdq.rounds_activations(model)
    worst = 0.0
    for shapes, batch in trials:
        drawn = {name: random_like(x, batch, generator) for name, x in shapes.items()}
        with torch.inference_mode():
            outputs = model(*drawn.values()) if single else model(**drawn)
        got = run({name: x.numpy() for name, x in drawn.items()}, batch_size=batch)
        pairs = [(got[name], outputs[name]) for name in outputs] if isinstance(outputs, Mapping) else [(got, outputs)]
        for ours, theirs in pairs:
            worst = max(worst, compared(ours, theirs.numpy(), rounded, f"at batch {batch}"))
    return worst


def compared(ours: NDArray[Any], expected: NDArray[Any], rounded: bool, where: str) -> float:
    """The largest absolute difference between what the file gives and what the model gives.

    Raises:
        ExportError: it is beyond the tolerance: that of the rounding, if activations are ``rounded``.
    """
    exact = expected.dtype.kind not in "fc"
    if exact:  # truth values have no difference
        ours, expected = ours.astype(np.int64), expected.astype(np.int64)
    largest = float(np.abs(expected).max(initial=0.0))
    same_shape = ours.shape == expected.shape
    difference = float(np.abs(ours - expected).max(initial=0.0)) if same_shape else math.inf
    same = difference <= (0.0 if exact else TOLERANCE * max(largest, 1e-6))
    if rounded and not same and math.isfinite(difference):
        mean = float(np.sqrt(np.mean((ours - expected) ** 2)))
        same = mean <= ROUNDING_TOLERANCE * float(expected.std())
    if not same:
        raise ExportError(
            f"The exported model differs from the original by {difference:.3g} {where} (outputs up to {largest:.3g}), "
            "so no file was written; use the model in PyTorch."
        )
    return difference
