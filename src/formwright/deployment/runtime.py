"""Running an exported model with ONNX Runtime: NumPy arrays in, NumPy arrays out, without PyTorch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from formwright.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[Any]
_KINDS = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(double)": np.float64}


class OnnxModel:
    """An ONNX model, a file or its bytes, as a function of one array, float32 or ids: ``(batch, ...) -> (batch, ...)``.

    ``threads`` is the number of threads within an operator (default: one a core). Raises :class:`UserError` where the
    file is missing or is not a model.
    """

    def __init__(self, source: str | os.PathLike[str] | bytes, threads: int | None = None) -> None:
        self.name = "the ONNX model" if isinstance(source, bytes) else Path(source).name
        if not isinstance(source, bytes) and not Path(source).is_file():
            raise UserError(f"There is no ONNX model at {os.fspath(source)}; export one first.")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Products with weights of 8 or 4 bits are taken in float32; by default the runtime rounds what comes in, too.
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
        try:
            self._session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            raise UserError(f"{self.name} is not an ONNX model that can be run: {error}") from error
        (self._input,) = self._session.get_inputs()
        (self._output, *_) = self._session.get_outputs()
        self._kind = _KINDS.get(self._input.type, np.float32)

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """The shape that the model takes; ``None`` where any size goes."""
        return tuple(size if isinstance(size, int) else None for size in self._input.shape)

    def on_tensors(self, inputs: Tensor) -> NDArray[np.float32]:
        """As a call, on a PyTorch tensor."""
        return self(np.ascontiguousarray(inputs.numpy()))

    def __call__(self, x: Array, batch_size: int = 64) -> Array:
        """The outputs of all rows of ``x``, computed ``batch_size`` at a time (the file's own size if it has one)."""
        expected = self.input_shape
        fits = x.ndim == len(expected) and all(
            want in (None, size) for size, want in zip(x.shape[1:], expected[1:], strict=True)
        )
        if not fits or not len(x):
            shown = ", ".join("any" if size is None else str(size) for size in expected)
            raise UserError(f"{self.name} takes arrays of shape ({shown}); got {tuple(x.shape)}.")
        return np.concatenate(list(self._batches(np.ascontiguousarray(x, self._kind), expected[0], batch_size)))

    def _batches(self, x: Array, fixed: int | None, batch_size: int) -> Iterator[Array]:
        step = fixed or batch_size
        for start in range(0, len(x), step):
            rows = x[start : start + step]
            short = fixed - len(rows) if fixed else 0
            if short:  # a fixed batch is filled up with copies of its last row
                rows = np.concatenate([rows, np.repeat(rows[-1:], short, axis=0)])
            (result,) = self._session.run([self._output.name], {self._input.name: rows})
            yield result[: len(result) - short]
