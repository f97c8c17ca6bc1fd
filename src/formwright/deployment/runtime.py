"""Running an exported model with ONNX Runtime: NumPy arrays in, NumPy arrays out, without PyTorch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from formwright.errors import UserError

if TYPE_CHECKING:
    from formwright.batch import Inputs

Array = NDArray[Any]
NOTES = "formwright"  # the entry of a file's metadata that holds what we say of it
KINDS: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
}


def opened(source: str | os.PathLike[str] | bytes, threads: int | None) -> tuple[str, ort.InferenceSession]:
    """A name for an ONNX model, a file or its bytes, and what runs it.

    Raises:
        UserError: the file is missing or is not a model.
    """
    name = "the ONNX model" if isinstance(source, bytes) else Path(source).name
    if not isinstance(source, bytes) and not Path(source).is_file():
        raise UserError(f"There is no ONNX model at {os.fspath(source)}; export one first.")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Products with weights of 8 or 4 bits are taken in float32; by default the runtime rounds what comes in, too.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    try:
        return name, ort.InferenceSession(_taken(source), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise UserError(f"{name} is not an ONNX model that can be run: {error}") from error


def _taken(source: str | os.PathLike[str] | bytes) -> str | bytes:
    """A model as ONNX Runtime takes it: by a name in UTF-8, or as bytes where the name of its file is in none."""
    if isinstance(source, bytes):
        return source
    try:
        return os.fsencode(source).decode("utf-8")
    except UnicodeDecodeError:
        return Path(source).read_bytes()


class OnnxModel:
    """An ONNX model, a file or its bytes, as a function of arrays: ``(batch, ...) -> (batch, ...)``.

    A model of one input takes an array, one of several takes a mapping by name; a model of one output gives an array,
    one of several a mapping by name. ``threads`` is the number of threads within an operator (default: one per core).
    Raises :class:`UserError` where the file is missing or is not a model.
    """

    def __init__(self, source: str | os.PathLike[str] | bytes, threads: int | None = None) -> None:
        self.name, self._session = opened(source, threads)
        self._inputs = {value.name: value for value in self._session.get_inputs()}
        self._outputs = [value.name for value in self._session.get_outputs()]
        self._kinds = {name: KINDS.get(value.type, np.float32) for name, value in self._inputs.items()}

    @property
    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """The shape of each input by name; ``None`` where any size goes."""
        return {
            name: tuple(size if isinstance(size, int) else None for size in value.shape)
            for name, value in self._inputs.items()
        }

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """The shape that a model of one input takes; ``None`` where any size goes."""
        (shape,) = self.input_shapes.values()
        return shape

    def on_tensors(self, inputs: Inputs) -> Any:
        """As a call, on PyTorch tensors."""
        if isinstance(inputs, Mapping):
            return self({name: np.ascontiguousarray(tensor.numpy()) for name, tensor in inputs.items()})
        return self(np.ascontiguousarray(inputs.numpy()))

    def __call__(self, x: Array | Mapping[str, Array], batch_size: int = 64) -> Any:
        """The outputs of all rows of ``x``, computed ``batch_size`` at a time (the file's own size if it has one).

        Raises:
            UserError: an input is missing, unknown or of another shape, or the inputs have no or not as many rows.
        """
        arrays = self._named(x)
        expected = self.input_shapes
        for name, array in arrays.items():
            fits = array.ndim == len(expected[name]) and all(
                want in (None, size) for size, want in zip(array.shape[1:], expected[name][1:], strict=True)
            )
            if not fits or not len(array):
                shown = ", ".join("any" if size is None else str(size) for size in expected[name])
                whose = "" if len(arrays) == 1 else f" as {name!r}"
                raise UserError(f"{self.name} takes arrays of shape ({shown}){whose}; got {tuple(array.shape)}.")
        rows = {name: len(array) for name, array in arrays.items()}
        if len(set(rows.values())) > 1:
            counted = ", ".join(f"{count} of {name!r}" for name, count in rows.items())
            raise UserError(f"{self.name} takes as many rows of each input; got {counted}.")
        fixed = next((shape[0] for shape in expected.values() if shape[0] is not None), None)
        pieces = list(self._batches(arrays, next(iter(rows.values())), fixed, batch_size))
        outputs = {name: np.concatenate([piece[index] for piece in pieces]) for index, name in enumerate(self._outputs)}
        return outputs[self._outputs[0]] if len(outputs) == 1 else outputs

    def _named(self, x: Array | Mapping[str, Array]) -> dict[str, Array]:
        """The arrays by the file's names, in its types."""
        if not isinstance(x, Mapping):
            if len(self._inputs) > 1:
                raise UserError(f"{self.name} takes {', '.join(self._inputs)}; give a mapping with these names.")
            x = dict.fromkeys(self._inputs, x)
        if set(x) != set(self._inputs):
            raise UserError(f"{self.name} takes {', '.join(self._inputs)}; got {', '.join(x) or 'nothing'}.")
        return {name: np.ascontiguousarray(x[name], kind) for name, kind in self._kinds.items()}

    def _batches(
        self, arrays: dict[str, Array], rows: int, fixed: int | None, batch_size: int
    ) -> Iterator[list[Array]]:
        step = fixed or batch_size
        for start in range(0, rows, step):
            piece = {name: array[start : start + step] for name, array in arrays.items()}
            count = min(step, rows - start)
            short = fixed - count if fixed else 0
            if short:  # a fixed batch is filled up with copies of its last row
                piece = {
                    name: np.concatenate([array, np.repeat(array[-1:], short, axis=0)]) for name, array in piece.items()
                }
            yield [result[:count] for result in self._session.run(self._outputs, piece)]
