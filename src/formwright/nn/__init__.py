"""The parts that models are made of. Importing this package registers all of them."""

from __future__ import annotations

import importlib
import pkgutil

from formwright.nn.context import Context
from formwright.nn.part import PARTS, Axis, Part, Promises, build_part
from formwright.nn.specification import BlockSpec, BranchSpec, ModelSpec, PartSpec, StageSpec, part

__all__ = [
    "PARTS",
    "Axis",
    "BlockSpec",
    "BranchSpec",
    "Context",
    "ModelSpec",
    "Part",
    "PartSpec",
    "Promises",
    "StageSpec",
    "build_part",
    "part",
]

for _package in ("norms", "embeddings", "stems", "heads"):
    importlib.import_module(f"formwright.nn.{_package}")
for _package in ("token_mixers", "channel_mixers"):
    _found = importlib.import_module(f"formwright.nn.{_package}")
    for _module in pkgutil.iter_modules(_found.__path__):
        importlib.import_module(f"{_found.__name__}.{_module.name}")
