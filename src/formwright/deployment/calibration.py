"""The ranges of activations, from which an INT8 model's scales are made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

Array = NDArray[Any]
Range = tuple[float, float]

BINS = 2048
BATCH = 16  # rows that run at once: every activation of a run is held in memory
SAMPLES = 100_000  # values of one tensor and run that enter its histogram
LEVELS = 255  # steps between the 256 values of an 8-bit integer


@dataclass
class Histogram:
    """How one tensor's values are spread: ``counts`` of equal bins between the exact ``low`` and ``high``."""

    low: float
    high: float
    counts: NDArray[np.float64]

    @property
    def centres(self) -> NDArray[np.float64]:
        edges = np.linspace(self.low, self.high, len(self.counts) + 1)
        return (edges[1:] + edges[:-1]) / 2


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


def extremes(histogram: Histogram) -> Range:
    """From the smallest to the largest value seen: nothing is clipped."""
    return histogram.low, histogram.high


def percentile(histogram: Histogram, share: float) -> Range:
    """The middle ``share`` of the values; the tails are clipped."""
    total = histogram.counts.sum()
    if not total:
        return extremes(histogram)
    below = np.cumsum(histogram.counts) / total
    tail = (1 - share) / 2
    edges = np.linspace(histogram.low, histogram.high, len(histogram.counts) + 1)
    first = int(np.searchsorted(below, tail, side="right"))
    last = min(int(np.searchsorted(below, 1 - tail)) + 1, len(edges) - 1)
    return min(float(edges[first]), 0.0), max(float(edges[last]), 0.0)


def least_squares(histogram: Histogram) -> Range:
    """The range, shrunk on both sides by one factor, with the least squared error of rounding and clipping."""
    factors = np.linspace(0.2, 1.0, 81)
    errors = [_squared_error(histogram, factor * histogram.low, factor * histogram.high) for factor in factors]
    best = float(factors[int(np.argmin(errors))])
    return best * histogram.low, best * histogram.high


def _squared_error(histogram: Histogram, low: float, high: float) -> float:
    """Σ counts · error²: what is inside the range is rounded (a twelfth of a step squared), the rest is clipped."""
    centres = histogram.centres
    clipped = centres - np.clip(centres, low, high)
    step = (high - low) / LEVELS
    return float((histogram.counts * np.where(clipped == 0, step**2 / 12, clipped**2)).sum())


METHODS: dict[str, Callable[[Histogram], Range]] = {
    "extremes": extremes,
    "percentile 99.99": lambda histogram: percentile(histogram, 0.9999),
    "least squares": least_squares,
}
