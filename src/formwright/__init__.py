"""Formwright: the Transformer, or its successor, that fits your data, your device and your budget.

>>> import formwright
>>> model = formwright.create_model("poolformer_s12", classes=10)
>>> formwright.fit("photos/", max_latency="5ms", max_size="4MB", max_time="15m", out="runs/mine")  # doctest: +SKIP

Names are imported when they are first used, so that ``import formwright`` stays light.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# OpenMP threads that wait by spinning take the processor from whoever else works: on a machine with any other load a
# training step was measured 10 times slower than with threads that sleep. Threads that sleep at once must be woken for
# every small operation: on an idle machine a step of many batch norms took 2.5 times as long. This is in between: a few
# microseconds, from one operation to the next. It counts only if set before PyTorch loads.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

_PUBLIC = {
    "create_model": "formwright.models",
    "from_pretrained": "formwright.models",
    "list_models": "formwright.models",
    "load_checkpoint": "formwright.models",
    "Model": "formwright.models",
    "build_part": "formwright.nn",
    "swap_mixers": "formwright.nn.edits",
    "ModelSpec": "formwright.nn.specification",
    "fit": "formwright.fitting",
    "predict": "formwright.deployment",
    "measure": "formwright.measurement",
    "Budget": "formwright.measurement",
    "verify": "formwright.catalog",
    "UserError": "formwright.errors",
}

__all__ = [*sorted(_PUBLIC), "__version__"]

if TYPE_CHECKING:
    from formwright.errors import UserError as UserError
    from formwright.models import Model as Model
    from formwright.models import create_model as create_model
    from formwright.models import from_pretrained as from_pretrained
    from formwright.models import list_models as list_models
    from formwright.models import load_checkpoint as load_checkpoint
    from formwright.nn import build_part as build_part
    from formwright.nn.edits import swap_mixers as swap_mixers
    from formwright.nn.specification import ModelSpec as ModelSpec


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'formwright' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
