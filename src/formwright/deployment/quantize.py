"""INT8 for ONNX Runtime: integer weights and activations, scales fixed from calibration data."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from formwright.deployment.calibration import observe
from formwright.deployment.ranges import METHODS, Range
from formwright.deployment.runtime import OnnxModel
from formwright.files import write_atomically

Array = NDArray[Any]

# Operators that are done in integers: the products, and what only moves or clips values between them. Residual sums,
# norms, softmax and activation functions stay float32: in integers they cost accuracy and, measured, save no time.
OPERATORS = (
    "Conv",
    "ConvTranspose",
    "Gemm",
    "MatMul",
    "Relu",
    "Clip",
    "MaxPool",
    "Concat",
    "Flatten",
    "Reshape",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
)


# Models of ids are mostly tables that are looked up in; those are stored in integers too.
LOOKUPS = ("Gather",)


@dataclass(frozen=True)
class Quantization:
    """How a model was quantised: the method of choosing ranges, and the error of each that was tried.

    ``errors``: root mean square of the change of the outputs on the calibration data, in units of the standard
    deviation of the float32 outputs over that data.
    """

    method: str
    errors: dict[str, float]

    @property
    def error(self) -> float:
        return self.errors[self.method]


def quantize_onnx(
    source: str | os.PathLike[str], target: str | os.PathLike[str], calibration: Array | Mapping[str, Array]
) -> Quantization:
    """Write the INT8 form of the ONNX model ``source`` to ``target``.

    Weights are signed and symmetric with a scale for each output channel; activations are unsigned with a zero point,
    the pair for which x86 CPUs have instructions (signed activations were measured up to three times slower). The
    ranges of the activations are chosen by each of several methods on ``calibration``, ``(rows, ...)`` as the model
    takes it (by name if it takes several inputs), and the model whose outputs change least on it is kept.

    Raises :class:`UserError` where ``source`` is missing or ``calibration`` does not fit it.
    """
    reference = OnnxModel(source)
    arrays = calibration if isinstance(calibration, Mapping) else dict.fromkeys(reference.input_shapes, calibration)
    whole = {name: np.issubdtype(array.dtype, np.integer) for name, array in arrays.items()}
    arrays = {name: np.ascontiguousarray(a, np.int64 if whole[name] else np.float32) for name, a in arrays.items()}
    ids = next(iter(whole.values()))
    expected = _flat(reference(arrays))
    model = onnx.shape_inference.infer_shapes(onnx.load(source), strict_mode=True)
    types = (*OPERATORS, *(LOOKUPS if ids else ()))
    wanted = {name for node in model.graph.node if node.op_type in types for name in (*node.input, *node.output)}
    histograms = observe(model, arrays, wanted)

    best, errors = b"", dict[str, float]()
    for method, choose in METHODS.items():
        content = _quantize(model, {name: choose(histogram) for name, histogram in histograms.items()}, ids=ids)
        errors[method] = _relative_error(_flat(OnnxModel(content)(arrays)), expected)
        if errors[method] == min(errors.values()):
            best = content
    write_atomically(os.fspath(target), best)
    return Quantization(min(errors, key=errors.__getitem__), errors)


def _quantize(model: onnx.ModelProto, ranges: dict[str, Range], *, ids: bool = False) -> bytes:
    working = onnx.ModelProto()
    working.CopyFrom(model)  # the quantiser rewrites what it is given
    data = {name: tuple(np.float32(end) for end in ends) for name, ends in ranges.items()}
    quantizer = QDQQuantizer(
        working,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, data),
        nodes_to_quantize=[],
        nodes_to_exclude=[],
        op_types_to_quantize=[*OPERATORS, *(LOOKUPS if ids else ())],
        extra_options={
            # Products of two activations (attention) stay float32: they have no channel scales and lose most.
            "MatMulConstBOnly": True,
            # What a linear layer gives goes to a norm, a sum, a softmax or to the user: all of them take float32, and
            # eight bits between would cost accuracy and time.
            "OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"],
        },
    )
    with _quiet():
        quantizer.quantize_model()
    quantizer.model.topological_sort()
    result = quantizer.model.model
    _shorten(result.graph)
    content: bytes = result.SerializeToString()
    onnx.checker.check_model(content, full_check=True)
    return content


def _shorten(graph: onnx.GraphProto) -> None:
    """Drop what the runtime infers again and give inner tensors short names: a fiftieth of a small model's file."""
    del graph.value_info[:]
    if any(attribute.HasField("g") for node in graph.node for attribute in node.attribute):
        return  # a loop or a branch may refer to outer names
    kept = {value.name for value in (*graph.input, *graph.output)} | {""}
    inner = {name for node in graph.node for name in node.output} | {tensor.name for tensor in graph.initializer}
    short = {name: f"{index:x}" for index, name in enumerate(sorted(inner - kept))}
    for tensor in graph.initializer:
        tensor.name = short.get(tensor.name, tensor.name)
    for node in graph.node:
        node.name = ""
        node.input[:] = [short.get(name, name) for name in node.input]
        node.output[:] = [short.get(name, name) for name in node.output]


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back the quantiser's log records, which it sends to the root logger."""
    level = logging.root.level
    logging.root.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logging.root.setLevel(level)


def _flat(outputs: Array | Mapping[str, Array]) -> Array:
    """The outputs of every row side by side; several by name are joined."""
    if not isinstance(outputs, Mapping):
        return outputs
    return np.concatenate([output.reshape(len(output), -1) for output in outputs.values()], axis=1)


def _relative_error(outputs: Array, expected: Array) -> float:
    spread = float((expected - expected.mean(0)).std()) or 1.0
    return float(np.sqrt(np.mean((outputs - expected) ** 2)) / spread)
