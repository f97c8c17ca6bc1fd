"""Shipping: export to ONNX, INT8, running with ONNX Runtime, and predictions from an exported folder alone.

Names are imported when they are first used: predicting needs no PyTorch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "ExportError": "export",
    "OnnxModel": "runtime",
    "export_onnx": "export",
}

__all__ = sorted(_PUBLIC)

if TYPE_CHECKING:
    from formwright.deployment.export import ExportError as ExportError
    from formwright.deployment.export import export_onnx as export_onnx
    from formwright.deployment.runtime import OnnxModel as OnnxModel


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
