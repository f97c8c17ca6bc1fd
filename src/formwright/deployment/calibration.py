"""The ranges of activations, from which an INT8 model's scales are made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from formwright.deployment.ranges import BINS, SAMPLES, Histogram, Range

Array = NDArray[Any]

BATCH = 16  # rows that run at once: every activation of a run is held in memory


def observe(
    model: onnx.ModelProto, calibration: Array | Mapping[str, Array], tensors: Iterable[str]
) -> dict[str, Histogram]:
    """Run ``model`` on the rows of ``calibration`` twice, for the ends of every tensor's values and for their spread.

    A model of several inputs is calibrated by a mapping of names to rows.

    ``tensors`` that are not float32 activations are left out. Raises :class:`ValueError` for values that are not
    finite.
    """
    session, inputs, outputs = _session(model, set(tensors))
    ends: dict[str, Range] = {}
    for name, values in _activations(session, inputs, outputs, calibration):
        low, high = ends.get(name, (0.0, 0.0))  # zero (padding, ReLU) must be exact, so it lies in every range
        ends[name] = min(low, float(values.min())), max(high, float(values.max()))
    for name, (low, high) in ends.items():
        if not np.isfinite(high - low):
            raise ValueError(f"activation {name} is not finite on the calibration data")
    histograms = {name: Histogram(low, high, np.zeros(BINS)) for name, (low, high) in ends.items()}
    for name, values in _activations(session, inputs, outputs, calibration):
        flat = values.reshape(-1)
        seen = histograms[name]
        if seen.high > seen.low:
            seen.counts += np.histogram(flat[:: max(1, flat.size // SAMPLES)], BINS, (seen.low, seen.high))[0]
    return histograms


def _session(model: onnx.ModelProto, wanted: set[str]) -> tuple[ort.InferenceSession, list[str], list[str]]:
    """A session of ``model`` that also returns the inner tensors among ``wanted``."""
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value.name for value in model.graph.input if value.name not in constants]
    known = {value.name: value for value in (*model.graph.value_info, *model.graph.output)}
    inner = [
        known[name]
        for node in model.graph.node
        for name in node.output
        if name in wanted and name in known and known[name].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    ]
    augmented = onnx.ModelProto()
    augmented.CopyFrom(model)
    del augmented.graph.output[:]
    augmented.graph.output.extend(inner)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(augmented.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session, inputs, [value.name for value in inner]


def _activations(
    session: ort.InferenceSession, inputs: list[str], outputs: Sequence[str], calibration: Array | Mapping[str, Array]
) -> Iterator[tuple[str, Array]]:
    arrays = calibration if isinstance(calibration, Mapping) else dict.fromkeys(inputs, calibration)
    for start in range(0, len(next(iter(arrays.values()))), BATCH):
        rows = {name: array[start : start + BATCH] for name, array in arrays.items()}
        yield from ((name, values) for name, values in rows.items() if values.dtype == np.float32)  # ids have no range
        yield from zip(outputs, session.run(list(outputs), rows), strict=True)
