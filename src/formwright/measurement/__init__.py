"""Latency, memory, multiply-accumulates and size of models on this machine, and budgets for them.

Names are imported when they are first used: a budget needs no PyTorch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "Budget": "budget",
    "Comparison": "latency",
    "Latency": "latency",
    "Machine": "machine",
    "Measurement": "measurements",
    "compare": "latency",
    "count_macs": "macs",
    "floor_seconds": "machine",
    "machine_rates": "machine",
    "measure": "measurements",
    "measure_latency": "latency",
    "model_bytes": "size",
    "pareto_front": "pareto",
    "peak_memory": "memory",
}

__all__ = sorted(_PUBLIC)

if TYPE_CHECKING:
    from formwright.measurement.budget import Budget as Budget
    from formwright.measurement.latency import Comparison as Comparison
    from formwright.measurement.latency import Latency as Latency
    from formwright.measurement.latency import compare as compare
    from formwright.measurement.latency import measure_latency as measure_latency
    from formwright.measurement.machine import Machine as Machine
    from formwright.measurement.machine import floor_seconds as floor_seconds
    from formwright.measurement.machine import machine_rates as machine_rates
    from formwright.measurement.macs import count_macs as count_macs
    from formwright.measurement.measurements import Measurement as Measurement
    from formwright.measurement.measurements import measure as measure
    from formwright.measurement.memory import peak_memory as peak_memory
    from formwright.measurement.pareto import pareto_front as pareto_front
    from formwright.measurement.size import model_bytes as model_bytes


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
