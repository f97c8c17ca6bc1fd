"""The main job: from data, a device and a budget to a model that fits all three.

Names are imported when they are first used: the options of tasks need no PyTorch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_PUBLIC = {"FitResult": "records", "fit": "run"}

__all__ = sorted(_PUBLIC)

if TYPE_CHECKING:
    from formwright.fitting.records import FitResult as FitResult
    from formwright.fitting.run import fit as fit


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
