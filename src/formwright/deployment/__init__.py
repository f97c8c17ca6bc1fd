"""Shipping: export to ONNX, INT8, running with ONNX Runtime, and predictions from an exported folder alone.

Names are imported when they are first used: predicting needs no PyTorch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "ExportError": "export",
    "OnnxModel": "runtime",
    "OnnxStream": "streaming",
    "Prediction": "classes",
    "Preparation": "preparation",
    "Quantization": "quantize",
    "export_onnx": "export",
    "load_preparation": "preparation",
    "export_reader": "step",
    "export_step": "step",
    "predict": "prediction",
    "quantize_onnx": "quantize",
}

__all__ = sorted(_PUBLIC)

if TYPE_CHECKING:
    from formwright.deployment.classes import Prediction as Prediction
    from formwright.deployment.export import ExportError as ExportError
    from formwright.deployment.export import export_onnx as export_onnx
    from formwright.deployment.prediction import predict as predict
    from formwright.deployment.preparation import Preparation as Preparation
    from formwright.deployment.preparation import load_preparation as load_preparation
    from formwright.deployment.quantize import Quantization as Quantization
    from formwright.deployment.quantize import quantize_onnx as quantize_onnx
    from formwright.deployment.runtime import OnnxModel as OnnxModel
    from formwright.deployment.step import export_reader as export_reader
    from formwright.deployment.step import export_step as export_step
    from formwright.deployment.streaming import OnnxStream as OnnxStream


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
